"""COMMAND as data: what both servers say of every command, field by field."""

import unittest

from asked import Asked, as_map

# Redis sends these in the order of a hash table, or they are prose in words of our own.
OWN_WORDS = {"summary", "history", "complexity"}


def free_of_order(tree):
    """Sets and maps in one order, so that trees can be compared."""
    kind, value = tree
    if not isinstance(value, list):
        return tree
    items = [free_of_order(item) for item in value]
    if kind == b"%":
        pairs = sorted(zip(items[::2], items[1::2]), key=repr)
        return kind, [item for pair in pairs for item in pair]
    return kind, sorted(items, key=repr) if kind == b"~" else items


class CommandTableTest(Asked):
    """For every command that both have."""

    def commands(self):
        """name -> COMMAND INFO of both, subcommands included."""
        result = []
        for tree in self.ask("COMMAND"):
            found = {}
            for info in tree[1]:
                self.add(info, found)
            result.append(found)
        return result

    def add(self, info, found):
        fields = info[1]
        found[fields[0][1]] = fields[:9]
        for sub in fields[9][1]:
            self.add(sub, found)

    def test_info_is_equal(self):
        ours, theirs = self.commands()
        names = ["name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "key specs"]
        differences = [f"{name.decode()}: {field}: ours {mine[1]}, theirs {other[1]}"
                       for name in sorted(ours.keys() & theirs.keys())
                       for field, mine, other in zip(names, ours[name], theirs[name])
                       if free_of_order(mine) != free_of_order(other)]
        self.assertGreater(len(ours.keys() & theirs.keys()), 100)
        self.fail_with(differences)

    def test_no_command_of_our_own(self):
        """Without a module every command is one of Redis's."""
        ours, theirs = self.commands()
        self.assertEqual([], sorted(ours.keys() - theirs.keys()))
        missing = sorted(name.decode() for name in theirs.keys() - ours.keys() if b"|" not in name)
        print(f"{len(ours)} of {len(theirs)} commands, without", " ".join(missing), end=" ")

    def test_subcommands_are_an_array_or_an_empty_set(self):
        kinds = [{info[1][0][1]: info[1][9][0] for info in tree[1]} for tree in self.ask("COMMAND")]
        shared = kinds[0].keys() & kinds[1].keys()
        self.assertGreater(len(shared), 60)
        self.fail_with([(name, kinds[0][name], kinds[1][name]) for name in sorted(shared)
                        if kinds[0][name] != kinds[1][name]])

    def test_docs_are_equal_but_for_prose(self):
        ours, theirs = (as_map(tree) for tree in self.ask("COMMAND", "DOCS"))
        differences = []
        for name in sorted(ours.keys() & theirs.keys()):
            self.compare_docs(name.decode(), ours[name], theirs[name], differences)
        self.assertGreater(len(ours.keys() & theirs.keys()), 60)
        self.fail_with(differences)

    def compare_docs(self, name, mine, other, differences):
        mine, other = as_map(mine), as_map(other)
        for field in sorted(mine.keys() | other.keys()):
            word = field.decode()
            if word == "subcommands":
                a, b = (as_map(side[field]) if field in side else {} for side in (mine, other))
                for sub in sorted(a.keys() & b.keys()):
                    self.compare_docs(sub.decode(), a[sub], b[sub], differences)
            elif (field in mine) != (field in other):
                differences.append(f"{name}: {word}: only {'ours' if field in mine else 'theirs'}")
            elif word == "history":  # prose, but the versions are data
                versions = [sorted(line[1][0][1] for line in side[field][1]) for side in (mine, other)]
                if versions[0] != versions[1]:
                    differences.append(f"{name}: history: ours {versions[0]}, theirs {versions[1]}")
            elif word not in OWN_WORDS and free_of_order(mine[field]) != free_of_order(other[field]):
                differences.append(f"{name}: {word}:\n  ours   {mine[field][1]}\n  theirs {other[field][1]}")

    def test_containers_have_help_of_the_same_form(self):
        """A first line as Redis has it, then a usage and an indented line each, HELP last."""
        ours, theirs = self.commands()
        for name in sorted(n for n in ours.keys() & theirs.keys() if n.endswith(b"|help")):
            container = name.split(b"|")[0]
            with self.subTest(container.decode()):
                trees = self.ask(container, b"HELP")
                if not isinstance(trees[1][1], list):  # CLUSTER without cluster mode
                    self.assertEqual(trees[1], trees[0])
                    continue
                mine, other = ([line[1] for line in tree[1]] for tree in trees)
                self.assertEqual(other[0], mine[0])
                self.assertEqual(b"HELP", mine[-2])
                for line in mine[1:]:
                    self.assertRegex(line, rb"^(?: {4,})?\S")
                words = [{line.split(b" ")[0] for line in side[1:] if not line.startswith(b" ")}
                         for side in (mine, other)]
                self.assertEqual(words[1] & {n.split(b"|")[1].upper() for n in ours if n.startswith(container + b"|")},
                                 words[1] & words[0])


if __name__ == "__main__":
    unittest.main()
