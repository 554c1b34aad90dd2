"""What a primary and its replicas tell each other and their clients, beside redis-server."""

import os
import signal
import socket
import time
import unittest

from scenes import Scenes

from cairn_server import wait_until  # pylint: disable=wrong-import-order


def read_until(connection, end):
    """Bytes up to and including `end`, or what came before the connection was closed."""
    data = b""
    while end not in data and (piece := connection.recv(65536)):
        data += piece
    return data


class Replicas(Scenes):
    def test_a_replica_that_asks_to_monitor_is_not_answered(self):
        def scene(binary):
            server = self.server(binary)
            with server.raw(timeout_s=60) as link:
                link.sendall(b"PSYNC ? -1\r\n")
                read_until(link, b"+FULLRESYNC")
                link.sendall(b"REPLCONF ACK 0\r\nMONITOR\r\n")
                server.client().set("key of the stream", "1")
                data = read_until(link, b"key of the stream")
                return b"key of the stream" in data, b"+OK" in data
        self.both(scene, (True, False))

    def stream_of(self, server):
        """What replicas are told from here on: a function that returns it up to now."""
        link, client = server.raw(timeout_s=60), server.client()
        self.addCleanup(link.close)
        link.sendall(b"PSYNC ? -1\r\n")
        read_until(link, b"+FULLRESYNC")
        link.sendall(b"REPLCONF ACK 0\r\n")

        def told():
            client.publish("end of", "the stream")
            return read_until(link, b"the stream")
        return told

    def test_what_a_walk_finds_past_its_time_goes_out_one_by_one(self):
        def scene(binary):
            server = self.server(binary, **{"enable-debug-command": "yes"})
            client, told, seen = server.client(), self.stream_of(server), []
            client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
            for command in (["SCAN", "0"], ["RANDOMKEY"], ["MGET", "a", "b"], ["EVAL", "return redis.call('scan', '0')", "0"]):
                client.set("a", "1", px=1)
                client.set("b", "1", px=1)
                time.sleep(0.01)
                client.execute_command(*command)
                data = told()
                seen.append((data.count(b"MULTI\r\n"), data.count(b"DEL\r\n")))
            return seen
        self.both(scene, [(0, 2), (0, 2), (1, 2), (1, 2)])

    def test_what_removes_a_key_under_a_lazy_setting_is_told_as_del(self):
        def scene(binary):
            server = self.server(binary, **{"lazyfree-lazy-server-del": "yes"})
            client, told = server.client(), self.stream_of(server)
            client.set("a string", "1")
            client.restore("a string", 1, client.dump("a string"), replace=True, absttl=True)
            client.sadd("a set", "1", "2")
            client.spop("a set", 5)
            data = told()
            return data.count(b"DEL\r\n"), data.count(b"UNLINK\r\n")
        self.both(scene, (2, 0))

    def test_whoever_does_not_answer_a_ping_is_no_primary(self):
        def scene(binary):
            with socket.create_server(("127.0.0.1", 0)) as web:
                web.settimeout(60)
                self.server(binary).client().replicaof("127.0.0.1", web.getsockname()[1])
                link, _ = web.accept()
                with link:
                    link.settimeout(60)
                    asked = read_until(link, b"PING\r\n")
                    link.sendall(b"HTTP/1.1 400 Bad Request\r\n")
                    return asked, read_until(link, b"\r\n")
        self.both(scene, (b"*1\r\n$4\r\nPING\r\n", b""))

    def test_resetstat_counts_resyncs_from_zero(self):
        def scene(binary):
            _, _, primary, _ = self.pair(binary)
            counts = [primary.info("stats")["sync_full"]]
            primary.config_resetstat()
            figures = primary.info("stats")
            return counts + [figures[name] for name in ("sync_full", "sync_partial_ok", "sync_partial_err")]
        self.both(scene, [1, 0, 0, 0])

    def test_wait_is_for_all_that_was_there_with_the_last_command(self):
        """Also for what others wrote: whoever has read it may wait for it."""
        def scene(binary):
            server, replica_server, primary, _ = self.pair(binary)
            primary.set("a", "1")
            primary.wait(1, 60_000)
            self.stopped(replica_server)
            primary.set("a", "2")
            other = server.client()
            seen = [other.wait(1, 50), other.get("a"), other.wait(1, 50), other.wait(0, 50)]
            os.kill(replica_server.pid, signal.SIGCONT)
            return seen + [other.wait(1, 60_000)]
        self.both(scene, [1, b"2", 0, 0, 1])

    def test_wait_in_a_transaction_is_for_what_was_there_before_it(self):
        def scene(binary):
            server, replica_server, primary, _ = self.pair(binary)
            primary.config_set("repl-ping-replica-period", "3600")
            primary.set("a", "1")

            def all_is_acknowledged():
                figures = primary.info("replication")
                return figures["slave0"]["offset"] == figures["master_repl_offset"]
            wait_until(all_is_acknowledged, what="the replica's acknowledgement")
            self.stopped(replica_server)
            with primary.pipeline(transaction=True) as own:
                seen = [own.set("a", "2").wait(1, 50).execute(), own.wait(1, 50).set("a", "3").wait(1, 50).execute(), primary.wait(1, 50)]
            os.kill(replica_server.pid, signal.SIGCONT)
            return seen + [primary.wait(1, 60_000)]
        self.both(scene, [[True, 1], [0, True, 0], 0, 1])

    def test_the_oom_score_follows_the_role(self):
        def scene(binary):
            server = self.server(binary, **{"oom-score-adj": "absolute", "oom-score-adj-values": "100 200 300"})
            client = server.client()

            def score():
                with open(f"/proc/{server.pid}/oom_score_adj", encoding="ascii") as file:
                    return int(file.read())
            seen = [score()]
            client.replicaof("127.0.0.1", 1)
            seen.append(score())
            client.config_set("oom-score-adj-values", "110 220 330")
            seen.append(score())
            client.replicaof("NO", "ONE")
            seen.append(score())
            from_start = self.server(binary, replicaof="127.0.0.1 1", **{"oom-score-adj": "absolute"})
            with open(f"/proc/{from_start.pid}/oom_score_adj", encoding="ascii") as file:
                return seen + [int(file.read())]
        self.both(scene, [100, 200, 220, 110, 200])


if __name__ == "__main__":
    unittest.main()
