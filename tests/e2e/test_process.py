"""How the process looks from outside: words it ends with at once, title, OOM score, service manager, syslog, threads, the rate of
its cron, its end by signals."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

import redis

from cairn_server import BINARIES, Server, free_port, wait_until

LIMIT_S = 30.0


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class ProcessTest(unittest.TestCase):

    def start(self, settings=None, environment=None, **options):
        server = Server(settings=settings, **options)
        self.addCleanup(server.close)
        saved = dict(os.environ)
        os.environ.update(environment or {})
        try:
            server.start()
        finally:
            os.environ.clear()
            os.environ.update(saved)
        return server

    def title(self, server):
        return read(f"/proc/{server.pid}/cmdline").rstrip("\0")

    def test_the_title(self):
        server = self.start()
        self.assertEqual(f"{server.path} 127.0.0.1:{server.port}", self.title(server))
        server.client().config_set("proc-title-template", "x {title} {port} {server-mode} {config-file}")
        self.assertEqual(f"x {server.path} {server.port}", self.title(server))
        with self.assertRaises(redis.ResponseError):
            server.client().config_set("proc-title-template", "{nosuch}")

    def test_the_title_of_a_server_without_a_port(self):
        server = self.start(unix=True)
        server.client(unix=True).config_set("port", 0)
        self.assertEqual(f"{server.path} unixsocket:{server.unix_path}", self.title(server))

    def test_no_title(self):
        server = self.start({"set-proc-title": "no"})
        self.assertEqual(server.command_line(), read(f"/proc/{server.pid}/cmdline").split("\0")[:-1])

    def test_the_environment_survives_the_title(self):
        """The title takes its place in memory, and what is read from it later is still there."""
        server = self.start(environment={"TZ": "Asia/Tokyo", "CAIRN_PADDING": "x" * 300})
        self.assertTrue(server.client().ping())
        self.assertNotIn("CAIRN_PADDING", self.title(server))

    def score(self, server):
        return int(read(f"/proc/{server.pid}/oom_score_adj"))

    def test_the_oom_score(self):
        base = int(read("/proc/self/oom_score_adj"))
        server = self.start({"oom-score-adj": "relative", "oom-score-adj-values": "100 200 800"})
        client = server.client()
        self.assertEqual(min(base + 100, 1000), self.score(server))
        client.config_set("oom-score-adj-values", "150 200 800")
        self.assertEqual(min(base + 150, 1000), self.score(server))
        client.config_set("oom-score-adj", "absolute")
        self.assertEqual(150, self.score(server))
        if os.geteuid() != 0:  # nobody else may lower a score
            return
        client.config_set("oom-score-adj", "no")
        self.assertEqual(base, self.score(server))

    def test_systemd_is_told(self):
        """Each line by itself, as redis-server tells it: the start, an end that fails, one that saves."""
        for binary in ("redis", "cairn"):
            with self.subTest(server=binary), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                probe = Server()
                self.addCleanup(probe.close)
                path = os.path.join(probe.directory, "notify")
                manager.bind(path)
                manager.settimeout(LIMIT_S)
                server = self.start({"supervised": "systemd", "daemonize": "yes", "save": "3600 1",
                                     "enable-protected-configs": "yes"}, {"NOTIFY_SOCKET": path}, binary=binary)

                def expect(*lines):
                    self.assertEqual([line + "\n" for line in lines], [manager.recv(4096).decode() for _ in lines])

                expect("STATUS=Redis is loading...", "STATUS=Ready to accept connections", "READY=1")
                self.assertTrue(server.running(), "a supervised server does not leave its parent")
                client = server.client()
                gone = os.path.join(server.directory, "gone")
                os.mkdir(gone)
                client.config_set("dir", gone)
                os.rmdir(gone)
                with self.assertRaisesRegex(redis.ResponseError, "Errors trying to SHUTDOWN"):
                    client.execute_command("SHUTDOWN")
                expect("STOPPING=1", "STATUS=Saving the final RDB snapshot", "STATUS=Error trying to save the DB, can't exit.")
                client.config_set("dir", server.directory)
                self.assertEqual(0, server.stop())
                expect("STOPPING=1", "STATUS=Saving the final RDB snapshot")

    def test_systemd_is_told_of_a_link(self):
        for binary in ("redis", "cairn"):
            with self.subTest(server=binary), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                primary = self.start({"repl-diskless-sync-delay": "0"}, binary=binary)
                path = os.path.join(primary.directory, "notify")
                manager.bind(path)
                manager.settimeout(LIMIT_S)
                self.start({"supervised": "auto", "replicaof": f"127.0.0.1 {primary.port}"}, {"NOTIFY_SOCKET": path}, binary=binary)
                said = [manager.recv(4096).decode() for _ in range(4)]
                self.assertIn("in read-only mode. Waiting for MASTER <-> REPLICA sync", said[1])
                self.assertIn("Finished with success. Ready to accept connections in read-write mode", said[3])

    def test_a_server_in_the_background_says_its_pid(self):
        default = "/var/run/redis.pid"
        if os.path.exists(default) or not os.access(os.path.dirname(default), os.W_OK):
            self.skipTest(f"{default} is not for this test")
        for binary in ("redis", "cairn"):
            probe = Server(binary)
            self.addCleanup(probe.close)
            subprocess.run([*probe.command_line(), "--daemonize", "yes"], timeout=LIMIT_S, check=True)
            client = probe.client()

            def answers():
                try:
                    return client.ping()
                except redis.ConnectionError:
                    return False

            wait_until(answers, LIMIT_S, "the server in the background")
            said = client.config_get("pidfile"), client.info("server")["process_id"], os.path.exists(default) and read(default)
            client.shutdown(nosave=True)
            self.assertEqual(({"pidfile": default}, said[1], f"{said[1]}\n"), said, binary)
            wait_until(lambda: not os.path.exists(default), LIMIT_S, "the end of the pid file")

    def test_settings_of_a_module_that_is_not_there(self):
        for binary in ("redis", "cairn"):
            run = subprocess.run([BINARIES[binary], "--port", str(free_port()), "--nosuch.setting", "1"],
                                 capture_output=True, text=True, timeout=LIMIT_S, check=False)
            self.assertEqual(1, run.returncode)
            self.assertIn("# Module Configuration detected without loadmodule directive or no ApplyConfig call: aborting",
                          run.stdout, binary)

    def test_supervision_without_a_manager(self):
        server = self.start({"supervised": "systemd"})
        self.assertIn("NOTIFY_SOCKET not found", server.log())
        server = self.start({"supervised": "auto"})
        self.assertNotIn("not found", server.log())

    def test_syslog(self):
        if os.path.exists("/dev/log") or not os.access("/dev", os.W_OK):
            self.skipTest("/dev/log belongs to somebody else")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.bind("/dev/log")
            self.addCleanup(os.unlink, "/dev/log")
            log.settimeout(LIMIT_S)
            self.start({"syslog-enabled": "yes", "syslog-ident": "cairn-test", "syslog-facility": "local3"})
            while True:
                line = log.recv(65536).decode()
                if "Ready to accept connections" in line:
                    break
            # local3 is 19, notice is 5.
            self.assertTrue(line.startswith(f"<{19 * 8 + 5}>"), line)
            self.assertRegex(line, r" cairn-test\[\d+\]: Ready to accept connections$")

    def threads(self, server):
        names = []
        for task in os.listdir(f"/proc/{server.pid}/task"):
            names.append(read(f"/proc/{server.pid}/task/{task}/comm").strip())
        return names

    def test_the_thread_of_the_allocator(self):
        server = self.start({"jemalloc-bg-thread": "no"})
        if not server.client().info("memory")["mem_allocator"].startswith("jemalloc"):
            self.skipTest("built without jemalloc")
        self.assertNotIn("jemalloc_bg_thd", self.threads(server))
        server.client().config_set("jemalloc-bg-thread", "yes")
        wait_until(lambda: "jemalloc_bg_thd" in self.threads(server), LIMIT_S, "the thread")
        server.client().config_set("jemalloc-bg-thread", "no")
        wait_until(lambda: "jemalloc_bg_thd" not in self.threads(server), LIMIT_S, "its end")

    def test_many_clients_let_cron_run_more_often(self):
        server = self.start({"hz": "1"})
        client = server.client()
        self.assertEqual(1, client.info("server")["hz"])
        many = [server.raw() for _ in range(450)]
        wait_until(lambda: client.info("server")["hz"] == 4, LIMIT_S, "a hz of 4")
        self.assertEqual(1, client.info("server")["configured_hz"])
        client.config_set("dynamic-hz", "no")
        self.assertEqual(1, client.info("server")["hz"])
        for connection in many:
            connection.close()

    def test_memory_of_a_big_value_comes_back_while_nothing_expires(self):
        client = self.start({"enable-debug-command": "yes"}).client()
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")  # as on a replica

        def dataset():
            return client.info("memory")["used_memory_dataset"]

        before = dataset()
        for start in range(0, 200_000, 10_000):
            client.hset("big", mapping={f"field:{i}": "a value" for i in range(start, start + 10_000)})
        self.assertGreater(dataset(), before + 4_000_000)
        client.unlink("big")
        wait_until(lambda: dataset() < before + 1_000_000, LIMIT_S, "the memory")

    def killed_before_a_long_load(self, delay_us, **start):
        """A server whose next start loads 2,000 keys, and takes so long for each of them. start() does not wait for it."""
        server = self.start({"loading-process-events-interval-bytes": "1024"}, **start)
        with server.client().pipeline(transaction=False) as pipeline:
            for i in range(2000):
                pipeline.set(f"key:{i}", "v" * 100)
            pipeline.execute()
        server.client().save()
        server.kill()
        server.settings["key-load-delay"] = str(delay_us)
        server.wait_ready = lambda limit_s=0: None
        return server

    def test_a_delayed_load_answers(self):
        server = self.killed_before_a_long_load(1000)
        server.start()
        seen, counted = set(), set()

        def loaded():
            try:
                figures = server.client().info("persistence")
                seen.add(figures["loading"])
                if figures["loading"]:
                    counted.add(figures["rdb_last_load_keys_loaded"])
                server.client().get("key:1")
                return True
            except redis.BusyLoadingError:
                seen.add("refused")
            except redis.ConnectionError:
                pass
            return False

        wait_until(loaded, LIMIT_S, "the end of the load")
        self.assertIn("refused", seen)
        self.assertTrue(any(0 < keys < 2000 for keys in counted), counted)
        self.assertEqual(2000, server.client().dbsize())

    def test_an_end_while_it_loads(self):
        """It is what was asked for, and no failure; nothing is saved over the file. Beside redis-server."""
        for binary in BINARIES:
            server = self.killed_before_a_long_load(5000, binary=binary)
            server.settings["save"] = "3600 1"
            dump = os.path.join(server.directory, "dump.rdb")
            saved = os.stat(dump).st_mtime_ns

            def loads():
                try:
                    return server.client().info("persistence")["loading"]
                except redis.ConnectionError:
                    return False

            for end in (lambda: server.client().shutdown(save=True), lambda: server.process.send_signal(signal.SIGTERM)):
                with self.subTest(binary=binary):
                    server.start()
                    wait_until(loads, LIMIT_S, "the load")
                    end()
                    self.assertEqual(0, server.wait_end())
                    self.assertEqual(saved, os.stat(dump).st_mtime_ns)

    def test_a_crash_is_reported_if_asked(self):
        for wanted in ("yes", "no"):
            server = self.start({"enable-debug-command": "yes"})
            server.client().config_set("crash-log-enabled", wanted)
            with self.assertRaises(redis.ConnectionError):
                server.client(retry=None).execute_command("DEBUG", "SEGFAULT")
            self.assertEqual(-11, server.wait_end())
            self.assertEqual(wanted == "yes", "crashed by signal" in server.log())

    def test_a_crash_by_a_signal_from_outside(self):
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT):
            server = self.start()
            self.assertEqual(-number, server.stop(number))
            self.assertIn(f"crashed by signal: {number.name}\nKilled by PID: {os.getpid()}, UID: {os.getuid()}\n", server.log())

    def test_an_alarm_does_not_end_it(self):
        with Server() as server:
            os.kill(server.pid, signal.SIGALRM)
            self.assertTrue(server.client().ping())
            self.assertTrue(server.running())

    def test_words_that_start_no_server(self):
        """They end with Redis's status and on its stream."""
        for words in ("--help", "-h", "--help x", "--version", "-v", "-v x", "--test-memory", "--check-system"):
            said = {}
            for binary in ("redis", "cairn"):
                run = subprocess.run([BINARIES[binary], *words.split()], capture_output=True, timeout=LIMIT_S, check=False)
                said[binary] = run.returncode, bool(run.stdout), bool(run.stderr)
            if words == "--check-system":  # a list of what was found there, a refusal here
                said["redis"] = 1, False, True
            self.assertEqual(said["redis"], said["cairn"], words)

    def test_where_the_configuration_came_from(self):
        for binary in ("redis", "cairn"):
            for words, text, expected in ((["--port", "x"], "", "FATAL CONFIG"), (["-"], "port x", "Reading config from stdin"),
                                          (["--port", "0"], "", "Configuration loaded"),
                                          (["-"], "port 0", "Configuration loaded")):
                run = subprocess.run([BINARIES[binary], *words], input=text, capture_output=True, text=True,
                                     timeout=LIMIT_S, check=False)
                self.assertEqual(1, run.returncode)
                self.assertIn(expected, run.stdout + run.stderr)
                self.assertNotIn("no config file specified", run.stdout)

    def test_an_include_that_cannot_be_read(self):
        """A name that matches and leads to nothing ends the start; a directory, or no match, does not."""
        directory = tempfile.mkdtemp(prefix="cairn-test-")
        self.addCleanup(shutil.rmtree, directory)
        os.makedirs(os.path.join(directory, "a.d", "b.conf"))
        os.symlink("/nosuch", os.path.join(directory, "a.d", "c.conf"))
        for binary in ("redis", "cairn"):
            for pattern, line in (("a.d/*.conf", "Fatal error, can't open config file"), ("a.*/c.conf", "Fatal error, can't"),
                                  ("a.d/b*", "not listen anywhere"), ("a.*/d.conf", "not listen anywhere")):
                run = subprocess.run([BINARIES[binary], "--port", "0", "--include", os.path.join(directory, pattern)],
                                     capture_output=True, text=True, timeout=LIMIT_S, check=False)
                self.assertEqual(1, run.returncode)
                self.assertIn(line, run.stdout, (binary, pattern))

    def test_lines_that_others_wait_for(self):
        """An append-only file and a dump that were loaded, an ACL file that cannot be read: the log has Redis's words."""
        for binary in ("redis", "cairn"):
            server = Server(binary, {"appendonly": "yes"})
            self.addCleanup(server.close)
            server.start().client().set("k", "v")
            server.stop()
            server.start()
            self.assertEqual(b"v", server.client().get("k"))
            self.assertIn("DB loaded from append only file: ", server.log(), binary)
            server.client().save()
            server.stop()
            server.settings["appendonly"] = "no"
            self.assertNotIn("DB loaded from disk: ", server.log(), binary)
            server.start()
            self.assertIn("DB loaded from disk: ", server.log(), binary)
            server.stop()
            server.settings["aclfile"] = "/nosuch/file"
            with self.assertRaisesRegex(RuntimeError, "because of ACL errors: Error loading ACLs, opening file '/nosuch/file': No such"):
                server.start()

    def test_renamed_commands(self):
        server = self.start({"rename-command": ["flushall ", "get fetch"]})  # an empty name takes it away
        client = server.client()
        client.set("a", "1")
        self.assertEqual(b"1", client.execute_command("FETCH", "a"))
        for words in (("GET", "a"), ("FLUSHALL",)):
            with self.assertRaisesRegex(redis.ResponseError, "unknown command"):
                client.execute_command(*words)


if __name__ == "__main__":
    unittest.main()
