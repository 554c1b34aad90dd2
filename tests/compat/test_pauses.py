"""What holds clients back, beside redis-server: CLIENT PAUSE, a failover and a shutdown that wait, one over another, and what
becomes of a paused server's keys, replicas and primary.
"""

import time
import unittest

from scenes import Asking, Scenes

from cairn_server import wait_until  # pylint: disable=wrong-import-order

LONG_MS = 600_000


class Pauses(Scenes):
    def test_nothing_expires(self):
        def scene(binary):
            client = self.server(binary).client()
            while client.pttl("a") <= 0:        # until it is there when the pause begins
                client.client_unpause()
                client.config_resetstat()
                client.set("a", "1", px=200)
                client.client_pause(LONG_MS, all=False)
            time.sleep(0.5)
            seen = [client.get("a"), client.exists("a"), client.dbsize(), client.info("stats")["expired_keys"]]
            client.client_unpause()
            return seen + [client.get("a"), client.dbsize(), client.info("stats")["expired_keys"]]
        self.both(scene, [None, 0, 1, 0, None, 0, 1])

    def test_randomkey_ends_where_all_are_past_their_time(self):
        """Not asked of redis-server, in which it never ends (docs/differences.md)."""
        client = self.server("cairn").client(socket_timeout=60)
        client.set("a", "1", px=1)
        client.client_pause(LONG_MS, all=False)
        time.sleep(0.1)
        self.assertIn(client.randomkey(), (b"a", None))

    def test_a_second_pause_makes_it_stricter_and_longer(self):
        def scene(binary):
            server = self.server(binary)
            client = server.client()
            client.client_pause(2000, all=False)
            client.client_pause(1, all=True)
            began = time.monotonic()
            asking = Asking(server, "PING")
            return asking.held(), asking.answer(), time.monotonic() - began > 1
        self.both(scene, (True, True, True))

    def test_one_inside_exec_begins_behind_it(self):
        def scene(binary):
            server = self.server(binary)
            client = server.client()
            with client.pipeline(transaction=True) as transaction:
                replies = transaction.set("a", "1").client_pause(LONG_MS, all=False).set("a", "2").execute()
            write = Asking(server, "SET", "a", "3")
            seen = [replies, write.held(), client.get("a")]
            client.client_unpause()
            return seen + [write.answer()]
        self.both(scene, [[True, True, True], True, b"2", True])

    def test_a_replica_does_not_run_its_stream(self):
        def scene(binary):
            _, _, primary, replica = self.pair(binary)
            replica.client_pause(LONG_MS, all=False)
            primary.set("a", "1")
            seen = [primary.wait(1, 400), replica.get("a")]
            replica.client_unpause()
            return seen + [primary.wait(1, 60_000), replica.get("a")]
        self.both(scene, [0, None, 1, b"1"])

    def test_a_replica_that_comes_while_it_is_paused(self):
        def scene(binary):
            primary_server = self.server(binary)
            primary = primary_server.client()
            primary.set("a", "1")
            replica = self.server(binary).client()
            replica.client_pause(LONG_MS, all=False)
            # REPLICAOF is no write.
            replica.replicaof("127.0.0.1", primary_server.port)
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up", what="the replica")
            primary.set("b", "1")
            seen = [primary.wait(1, 400), replica.get("a"), replica.get("b")]
            replica.client_unpause()
            return seen + [primary.wait(1, 60_000), replica.get("b")]
        self.both(scene, [0, b"1", None, 1, b"1"])

    def test_a_paused_primary_still_pings(self):
        def scene(binary):
            _, _, primary, _ = self.pair(binary)
            primary.client_pause(LONG_MS, all=False)
            offset = primary.info("replication")["master_repl_offset"]
            wait_until(lambda: primary.info("replication")["master_repl_offset"] > offset, what="a PING")
            return True
        self.both(scene, True)

    def test_unpause_does_not_end_a_failovers(self):
        def scene(binary):
            server, replica_server, primary, _ = self.pair(binary)
            self.stopped(replica_server)
            primary.set("a", "1")
            primary.execute_command("FAILOVER")
            write = Asking(server, "SET", "a", "2")
            seen = [write.held()]
            primary.client_unpause()
            seen += [write.held(), primary.get("a")]
            primary.execute_command("FAILOVER", "ABORT")
            return seen + [write.answer(), primary.get("a")]
        self.both(scene, [True, True, b"1", True, b"2"])

    def test_the_end_of_a_failover_does_not_end_clients(self):
        def scene(binary):
            server, replica_server, primary, _ = self.pair(binary)
            self.stopped(replica_server)
            primary.set("a", "1")
            primary.client_pause(LONG_MS, all=False)
            primary.execute_command("FAILOVER")
            write = Asking(server, "SET", "a", "2")
            primary.execute_command("FAILOVER", "ABORT")
            seen = [write.held()]
            primary.client_unpause()
            return seen + [write.answer()]
        self.both(scene, [True, True])

    def test_a_failover_hands_over_under_a_pause(self):
        """The new replica stays paused until told otherwise, and then follows."""
        def scene(binary):
            _, _, primary, replica = self.pair(binary)
            primary.client_pause(LONG_MS, all=False)
            primary.execute_command("FAILOVER")
            wait_until(lambda: primary.info("replication")["role"] == "slave", what="the new replica")
            wait_until(lambda: primary.info("replication")["master_link_status"] == "up", what="its link")
            replica.set("a", "1")
            seen = [replica.wait(1, 400), primary.get("a")]
            primary.client_unpause()
            return seen + [replica.wait(1, 60_000), primary.get("a")]
        self.both(scene, [0, None, 1, b"1"])

    def test_unpause_does_not_end_a_shutdowns(self):
        def scene(binary):
            server, replica_server, primary, _ = self.pair(binary)
            self.stopped(replica_server)
            primary.set("a", "1")
            # The wait is for a replica whose lag is known: at its next acknowledgement, which does not come.
            wait_until(lambda: primary.info("replication")["slave0"]["lag"] > 0, what="a lag")
            shutdown = Asking(server, "SHUTDOWN", "NOSAVE")
            seen = [shutdown.held(), 0 < primary.info("server").get("shutdown_in_milliseconds", 0) <= 10_000]
            primary.client_unpause()
            write = Asking(server, "SET", "a", "2")
            seen += [write.held(), primary.get("a")]
            primary.execute_command("SHUTDOWN", "ABORT")
            return seen + [write.answer(), primary.get("a"), shutdown.answer(),
                           primary.info("server").get("shutdown_in_milliseconds")]
        self.both(scene, [True, True, True, b"1", True, b"2",
                          "Errors trying to SHUTDOWN. Check logs.", None])


if __name__ == "__main__":
    unittest.main()
