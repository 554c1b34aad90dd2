"""Messages and what scripts send to one side alone, beside redis-server: PUBLISH reaches those who listen on a replica, in its
place among the effects, and no file; redis.set_repl tells log and replicas apart.
"""

import unittest

from effects import logged
from exchange import Connection, encode
from servers import Server

from cairn_server import wait_until  # pylint: disable=wrong-import-order

END = b"end"


class Published(unittest.TestCase):
    def pair(self, binary):
        """A primary that logs and its replica, with a client each."""
        primary = Server(binary, {"appendonly": "yes", "repl-diskless-sync-delay": "0"})
        self.addCleanup(primary.close)
        primary.start()
        replica = Server(binary, {"replicaof": f"127.0.0.1 {primary.port}"})
        self.addCleanup(replica.close)
        replica.start()
        clients = primary.client(), replica.client()
        wait_until(lambda: clients[1].info("replication")["master_link_status"] == "up", what="the replica")
        return primary, replica, *clients

    def both(self, scene, expected):
        for binary in ("redis", "cairn"):
            with self.subTest(binary=binary):
                self.assertEqual(scene(binary), expected)

    def heard(self, server, *subscriptions):
        """Returns a function that gives all that is heard there up to the message END, which it awaits."""
        connection = Connection(server.port)
        self.addCleanup(connection.close)
        for words in subscriptions:
            connection.send(encode([word.encode() for word in words]))
            connection.reply()

        def messages():
            words = []
            while not words or words[-1][-1] != END:
                words.append([word[1] for word in connection.reply()[1][1]])
            return [b" ".join(message).decode() for message in words]
        return messages

    def test_on_a_replica(self):
        def scene(binary):
            server, replica_server, primary, replica = self.pair(binary)
            messages = self.heard(replica_server, ("SUBSCRIBE", "c"), ("SSUBSCRIBE", "s"), ("PSUBSCRIBE", "c*"))
            counts = [primary.publish("c", "1"), primary.execute_command("SPUBLISH", "s", "2")]
            with primary.pipeline(transaction=True) as transaction:
                transaction.set("a", "1").publish("c", "3").set("a", "2").publish("c", "4").execute()
            primary.eval("redis.call('publish', 'c', '5') redis.call('set', 'b', '1') redis.call('spublish', 's', '6')", 0)
            primary.set("d", "1")
            primary.publish("c", END)
            # What was published is waited for like a write, and the offsets agree.
            acknowledged = primary.wait(1, 60_000)
            offsets = primary.info("replication")["master_repl_offset"], replica.info("replication")["slave_repl_offset"]
            wait_until(lambda: b"\r\nd\r\n" in logged(server), what="the log")
            log = logged(server)
            return (counts, messages(), acknowledged, offsets[0] - offsets[1], replica.mget("a", "b", "d"),
                    b"publish" in log.lower(), log.count(b"\r\nset\r\n") + log.count(b"\r\nSET\r\n"))
        each = ["message c {}", "pmessage c* c {}"]
        told = [line.format(n) if n not in (2, 6) else f"smessage s {n}"
                for n in range(1, 7) for line in (each if n not in (2, 6) else each[:1])]
        self.both(scene, ([0, 0], told + ["message c end"], 1, 0, [b"2", b"1", b"1"], False, 4))

    def test_their_place_in_the_stream(self):
        """MONITOR of the replica shows the order, and that MULTI stands before a message that comes first."""
        def scene(binary):
            _, replica_server, primary, _ = self.pair(binary)
            watching = Connection(replica_server.port)
            self.addCleanup(watching.close)
            watching.send(encode([b"MONITOR"]))
            watching.reply()
            primary.publish("c", "0")
            with primary.pipeline(transaction=True) as transaction:
                transaction.publish("c", "1").set("a", "1").publish("c", "2").execute()
            primary.publish("c", "3")
            primary.set("z", "end")
            seen = []
            while not seen or seen[-1] != "Z END":
                line = watching.reply()[1][1].decode()
                words = [word for word in line.split('"')[1:] if word.strip()]
                if words[0].upper() not in ("PING", "REPLCONF", "SELECT"):
                    seen.append(" ".join(words[-2:]).upper() if len(words) > 1 else words[0].upper())
            return seen
        self.both(scene, ["C 0", "MULTI", "C 1", "A 1", "C 2", "EXEC", "C 3", "Z END"])

    def test_what_a_script_sends_to_one_side(self):
        def scene(binary):
            server, replica_server, primary, replica = self.pair(binary)
            messages = self.heard(replica_server, ("SUBSCRIBE", "c"))
            primary.eval("""
                redis.set_repl(redis.REPL_NONE) redis.call('set', 'none', '1') redis.call('publish', 'c', 'none')
                redis.set_repl(redis.REPL_AOF) redis.call('set', 'log', '1') redis.call('publish', 'c', 'log')
                redis.set_repl(redis.REPL_REPLICA) redis.call('set', 'copy', '1') redis.call('publish', 'c', 'copy')
                redis.set_repl(redis.REPL_ALL) redis.call('set', 'all', '1') redis.call('publish', 'c', 'all')""", 0)
            primary.publish("c", END)
            acknowledged = primary.wait(1, 60_000)
            keys = ["none", "log", "copy", "all"]
            on_replica = replica.mget(keys)
            told = messages()
            replica_server.stop()
            server.restart()
            return on_replica, told, acknowledged, server.client().mget(keys)
        self.both(scene, ([None, None, b"1", b"1"], ["message c copy", "message c all", "message c end"], 1,
                          [None, b"1", None, b"1"]))


if __name__ == "__main__":
    unittest.main()
