// Runs of checkpoints as values: keys, events, files, what a replay of the log makes, forged
// payloads, and work in two halves.

#include <gtest/gtest.h>

#include <cstring>

#include "persistence/rdb_writer.h"
#include "server/engine/loader.h"
#include "server/engine/module_value.h"
#include "tests/support/ckpt_fixture.h"
#include "tests/support/fake_client.h"

namespace cairn {
namespace {

// --- a value like others ---

TEST_F(CkptTest, IsAValueLikeOthers) {
  Session& listener = harness_.AddSession();
  harness_.Send(listener, {"SUBSCRIBE", "__ckpt__:run"});
  harness_.TakeReplies(listener);
  harness_.TakeEvents();
  Save(1, "abc");
  EXPECT_EQ(harness_.TakeEvents(), (Lines{"0 new run", "0 ckpt.commit run"}));
  EXPECT_TRUE(
      harness_.Received(listener).starts_with("[\"message\", \"__ckpt__:run\", \"committed 1 "));
  EXPECT_EQ(Run({"TYPE", "run"}), "+ckptrun");
  EXPECT_EQ(Run({"COPY", "run", "copy"}), ":1");
  EXPECT_EQ(Run({"RENAME", "copy", "other"}), "+OK");
  EXPECT_EQ(Run({"EXPIRE", "run", "100"}), ":1");
  Save(2, "abd");
  EXPECT_EQ(Run({"TTL", "run"}), ":100") << "kept";
  EXPECT_EQ(Call({"CKPT.LIST", "other"}).elements.size(), 1u) << "a copy goes its own way";
  EXPECT_EQ(Run({"SET", "s", "x"}), "+OK");
  EXPECT_EQ(Word(Run({"CKPT.BEGIN", "s", "1"})), "-WRONGTYPE");
  EXPECT_EQ(Word(Run({"CKPT.LIST", "s"})), "-WRONGTYPE");
  EXPECT_EQ(Run({"CKPT.LIST", "none"}), "-ERR no such run");
  EXPECT_EQ(Word(Run({"TENSOR.GET", "run"})), "-WRONGTYPE");
}

TEST_F(CkptTest, WhatEndsIsToldAndLogged) {
  Session& listener = harness_.AddSession();
  harness_.Send(listener, {"SUBSCRIBE", "__ckpt__:run"});
  harness_.TakeReplies(listener);
  const auto told = [&] {
    Lines out;
    for (const RespValue& message : harness_.TakeReplies(listener)) {
      out.push_back(message.elements.at(2).text);
    }
    return out;
  };
  const auto logged = [&] {
    std::string out;
    for (const RespValue& line : Call({"CKPT.LOG", "run"}).elements) {
      out += line.elements.at(1).text + " " + line.elements.at(2).ToString().substr(1) + " ";
    }
    return out;
  };
  const std::string old = Begin(1);
  const std::string tx = Begin(1, {"ATTEMPT", "1"});
  EXPECT_EQ(told(), (Lines{"begun 1 " + old, "fenced 1 " + old, "begun 1 " + tx}));
  EXPECT_EQ(Begin(1, {"ATTEMPT", "1"}), tx);
  EXPECT_EQ(told(), Lines{}) << "joined, not begun";
  Run({"CKPT.ABORT", "run", tx});
  for (uint64_t step : {1, 2, 3, 4}) Save(step, "v");
  Run({"CKPT.TAG", "run", "best", "4"});
  told();
  EXPECT_EQ(Run({"CKPT.UNTAG", "run", "best"}), ":1");
  EXPECT_EQ(Run({"CKPT.UNTAG", "run", "best"}), ":0");
  EXPECT_EQ(told(), Lines{"untagged 4 best"});
  EXPECT_EQ(Run({"CKPT.RETAIN", "run", "KEEP", "3"}), "[:1]");
  EXPECT_EQ(told(), Lines{"deleted 1 "});
  Run({"CKPT.CREATE", "run", "KEEP", "2"});
  const std::string saved =
      Call({"CKPT.SAVE", "run", "5", "1", "w", "U8", "SHAPE", "1", "1", "BLOB", "v"}).text;
  EXPECT_EQ(told(), (Lines{"committed 5 " + saved, "deleted 2 ", "deleted 3 "}));
  EXPECT_EQ(logged(),
            "deleted 3 deleted 2 committed 5 deleted 1 committed 4 committed 3 committed 2 "
            "committed 1 aborted 1 fenced 1 ");
  const std::string merged = Call({"CKPT.MERGE", "run", "6", "1", "5", "1"}).text;
  EXPECT_EQ(told(), (Lines{"committed 6 " + merged, "deleted 4 "}));
  const std::string last = Begin(7, {"ATTEMPT", "1"});
  Rank(last, 0, "PREPARE");
  Run({"CKPT.COMMIT", "run", last});
  EXPECT_EQ(told(), (Lines{"begun 7 " + last, "prepared 7 " + last + " 0", "committed 7 " + last,
                           "deleted 5 "}));
}

TEST_F(CkptTest, CommandInfoNamesKeysFlagsAndCategories) {
  const RespValue info = Call({"COMMAND", "INFO", "ckpt.commit"}).elements[0];
  EXPECT_EQ(info.elements[2].ToString(), "[+write, +module, +blocking]");
  EXPECT_NE(info.elements[6].ToString().find("@blocking"), std::string::npos);
  EXPECT_EQ(Run({"COMMAND", "GETKEYS", "CKPT.LOAD", "a", "1", "w"}), "[\"a\"]");
  int seen = 0;
  for (const Command* command : harness_.engine().commands.top_level()) {
    if (!command->full_name.starts_with("ckpt.")) continue;
    ++seen;
    // Without arguments.
    if (command->full_name == "ckpt.logs" || command->full_name == "ckpt.codecs") continue;
    const RespValue docs = Call({"COMMAND", "DOCS", command->full_name});
    EXPECT_NE(docs.ToString().find("\"arguments\""), std::string::npos) << command->full_name;
  }
  EXPECT_EQ(seen, 36);
}

/// A run with one chunk and nothing else, as DUMP has it; `named`: by hash alone.
std::string RunPayload(int version, const std::string& bytes, bool named) {
  DumpWriter writer;
  ValueSink& sink = writer.sink();
  bool good = sink.BeginModule(ModuleTypeId("cairnckpt", version)).ok();
  const auto add = [&](std::initializer_list<uint64_t> numbers) {
    for (uint64_t number : numbers) good = good && sink.ModuleUnsigned(number).ok();
  };
  const Hash128 hash = HashBytes128(bytes);
  add({0, 0, 600000, 4, 0, 0, 0, 0, 0});  // config
  add({1, static_cast<uint64_t>(tensor::DType::kU8), hash.low, hash.high});
  if (version > 1) add({named ? 1u : 0u});
  if (named) {
    add({bytes.size()});
  } else {
    good = good && sink.ModuleString(bytes).ok();
  }
  add({0, 0, 0, 0, 0});
  CAIRN_CHECK(good && sink.End().ok());
  return writer.Finish().value();
}

TEST_F(CkptTest, APayloadThatNamesAChunkInsteadOfHavingItIsRefused) {
  const std::string bytes = Fill(5000, 3);
  EXPECT_EQ(Run({"RESTORE", "old", "0", RunPayload(1, bytes, false)}), "+OK");
  EXPECT_EQ(Run({"RESTORE", "new", "0", RunPayload(2, bytes, false)}), "+OK");
  Save(1, bytes);
  EXPECT_EQ(Run({"RESTORE", "named", "0", RunPayload(2, bytes, true)}), "-ERR Bad data format")
      << "also when the server holds the chunk";
  EXPECT_EQ(Run({"RESTORE", "newer", "0", RunPayload(3, bytes, false)}), "+OK");
  EXPECT_EQ(Run({"RESTORE", "none", "0", RunPayload(4, bytes, false)}), "-ERR Bad data format");
}

TEST_F(CkptTest, DumpAndRestoreKeepAnOpenTransaction) {
  const std::string bytes = Fill(kChunk + 100, 2);
  Save(1, bytes);
  const std::string tx = Begin(2, {"RANK", "1", "WORLD", "2"});
  DeclareU8(tx, "w", bytes.size(), 1);
  Put(tx, "w", 10, bytes.substr(10, 50), 1);
  Rank(tx, 1, "STATE", {"s", "KIND", "loader", "BLOB", "pos"});
  Rank(tx, 0, "PREPARE");
  const std::string payload = Call({"DUMP", "run"}).text;
  EXPECT_EQ(Run({"RESTORE", "copy", "0", payload}), "+OK");
  EXPECT_EQ(Call({"CKPT.LOAD", "copy", "1", "w"}).elements.at(5).text, bytes);
  EXPECT_EQ(Run({"CKPT.OFFSET", "copy", tx, "RANK", "1"}), Rank(tx, 1, "OFFSET"));
  EXPECT_EQ(Run({"CKPT.RESUME", "copy", "RANK", "1"}), Run({"CKPT.RESUME", "run", "RANK", "1"}));
  EXPECT_EQ(Run({"CKPT.LOG", "copy"}), Run({"CKPT.LOG", "run"}));
  EXPECT_EQ(Call({"DUMP", "copy"}).text, payload);
}

/// A file that the server has written and does not read again is a server that does not start.
TEST_F(CkptTest, WhatACommandTakesAFileTakesToo) {
  const std::string most = std::to_string(tensor::kMaxTimeMs);
  const std::string more = std::to_string(tensor::kMaxTimeMs + 1);
  const std::string refused = "-ERR a time is 0 to " + most + " milliseconds";
  const auto save = [&](const std::string& at) {
    return Run({"CKPT.SAVE", "run", "1", "1", "w", "U8", "SHAPE", "1", "3", "BLOB", "abc", "TX",
                "x", "AT", at});
  };
  EXPECT_EQ(save(more), refused);
  EXPECT_EQ(save("9223372036854775807"), refused);
  EXPECT_EQ(Run({"CKPT.BEGIN", "run", "2", "AT", more}), refused);
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", "x", "AT", more}), refused);
  EXPECT_EQ(save(most), "\"x\"");
  Begin(1, {"AT", most, "ATTEMPT", "1", "TIMEOUT", std::to_string(tensor::kMaxTimeoutMs)});
  Begin(1, {"AT", most, "ATTEMPT", "2"});
  EXPECT_EQ(Run({"RESTORE", "copy", "0", Call({"DUMP", "run"}).text}), "+OK");
  EXPECT_EQ(Bytes("1", "w"), "abc");
}

/// More than kMaxGapBoxes gaps while one rank's rows are there and the other's are not.
TEST_F(CkptTest, RowsDealtToRanksInTurnsAreAVersionLikeOthers) {
  constexpr int kRows = 3 * tensor::kMaxGapBoxes;
  const std::string tx = Begin(1, {"RANK", "0", "WORLD", "2"});
  const std::string rows = std::to_string(kRows);
  std::string bytes;
  for (int rank = 0; rank < 2; ++rank) {
    Lines shards = {std::to_string(kRows / 2)};
    for (int row = rank; row < kRows; row += 2) {
      for (const char* word : {"w", "weights", "U8", "SHAPE", "1"}) shards.emplace_back(word);
      shards.insert(shards.end(),
                    {rows, "SHARD", "OFF", "1", std::to_string(row), "LEN", "1", "1"});
    }
    ASSERT_EQ(Rank(tx, rank, "DECLARE", shards), ":" + shards[0]);
    for (int i = 0; i < kRows / 2; ++i) {
      ASSERT_EQ(Rank(tx, rank, "PUT",
                     {"w", "SHARD", std::to_string(i), "AT", "0", "BLOB", rank == 0 ? "a" : "b"}),
                ":1");
    }
    Rank(tx, rank, "PREPARE");
  }
  for (int row = 0; row < kRows; ++row) bytes += row % 2 == 0 ? "a" : "b";
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx})[0], '[');
  EXPECT_EQ(Bytes("1", "w"), bytes);
  EXPECT_EQ(Field(Call({"CKPT.VERIFY", "run", "1", "DEEP"}), "ok"), ":1");
  const std::string payload = Call({"DUMP", "run"}).text;
  EXPECT_EQ(Run({"RESTORE", "run", "0", payload, "REPLACE"}), "+OK");
  EXPECT_EQ(Bytes("1", "w"), bytes);
}

TEST_F(CkptTest, ForgedPayloadsAreRefusedOrHarmless) {
  const std::string tx = Begin(2, {"RANK", "0", "WORLD", "2"});
  Save(1, "abcdefgh");
  DeclareU8(tx, "w", 8);
  Put(tx, "w", 2, "cd");
  const std::string good = Call({"DUMP", "run"}).text;
  const size_t end = good.size() - 8;
  int refused = 0;
  for (size_t at = 10; at < end - 2; ++at) {
    std::string bad = good.substr(0, end);
    bad[at] = static_cast<char>(bad[at] ^ 1);
    const uint64_t crc = Crc64(0, bad);
    bad.append(reinterpret_cast<const char*>(&crc), sizeof crc);
    const RespValue reply = Call({"RESTORE", "r", "0", bad, "REPLACE"});
    refused += reply.IsError() ? 1 : 0;
    if (reply.IsError()) continue;
    // What is taken can be read without harm.
    Call({"CKPT.LIST", "r"});
    Call({"CKPT.STATUS", "r"});
    Call({"CKPT.MANIFEST", "r", "LATEST"});
    Call({"CKPT.LOAD", "r", "LATEST", "w"});
    Call({"CKPT.RESUME", "r", "RANK", "0"});
    Call({"CKPT.VERIFY", "r", "LATEST", "DEEP"});
  }
  EXPECT_GT(refused, static_cast<int>(end) / 3);
}

/// `payload` with other bytes of the same length in place of each `from`.
std::string Forge(std::string payload, const std::string& from, const std::string& to) {
  CAIRN_CHECK(from.size() == to.size());
  for (size_t at = 0; (at = payload.find(from, at)) != std::string::npos; at += from.size()) {
    payload.replace(at, from.size(), to);
  }
  payload.resize(payload.size() - 8);
  const uint64_t crc = Crc64(0, payload);
  payload.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  return payload;
}

TEST_F(CkptTest, APayloadWhoseRanksMeanOtherTensorsByOneNameIsRefused) {
  const std::string tx = Begin(2, {"RANK", "0", "WORLD", "2", "COVERAGE"});
  Rank(tx, 0, "DECLARE", {"1", "square", "weights", "U8", "SHAPE", "2", "2", "2"});
  Put(tx, "square", 0, "abcd");
  DeclareU8(tx, "column", 4, 1);
  Put(tx, "column", 0, "abcd", 1);
  Rank(tx, 0, "PREPARE");
  Rank(tx, 1, "PREPARE");
  const std::string payload = Call({"DUMP", "run"}).text;
  EXPECT_EQ(Run({"RESTORE", "run", "0", Forge(payload, "square", "pillar"), "REPLACE"}), "+OK");
  EXPECT_EQ(Run({"RESTORE", "run", "0", Forge(payload, "square", "column"), "REPLACE"}),
            "-ERR Bad data format");
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx})[0], '[');
  EXPECT_EQ(Bytes("2", "pillar"), "abcd");
}

/// Runs what the append-only file would hold, as at a start.
void Replay(Engine& engine, std::string_view log) {
  CommandLoader loader(engine);
  for (size_t at = 0; at < log.size();) {
    RespValue command;
    size_t consumed = 0;
    ASSERT_EQ(ParseReply(log.substr(at), &consumed, &command), ReplyParse::kValue);
    at += consumed;
    std::vector<std::string_view> words;
    for (const RespValue& word : command.elements) words.push_back(word.text);
    const Status status = loader.Command(words);
    ASSERT_TRUE(status.ok()) << words[0] << " " << status.message();
  }
}

/// What the append-only file would hold, run again where the key is not.
TEST_F(CkptTest, TheLogMakesTheSameRun) {
  const std::string bytes = Fill(kChunk * 2, 5);
  const std::string hash = Hash128Hex(HashBytes128(bytes.substr(0, kChunk)));
  harness_.engine().propagation.Take();
  Run({"CKPT.CREATE", "run", "KEEP", "3", "MAXCONCURRENT", "1"});
  Save(1, bytes);
  const std::string lost = Begin(2, {"TIMEOUT", "100"});
  DeclareU8(lost, "w", bytes.size());
  Put(lost, "w", 0, Fill(kChunk, 7));
  harness_.AdvanceMs(101);
  const std::string tx = Begin(3);
  DeclareU8(tx, "w", bytes.size());
  // One chunk of a committed version, and one that a replay does not have any more.
  Rank(tx, 0, "REF", {"w", "AT", "0", "1", hash});
  Rank(tx, 0, "REF",
       {"w", "AT", std::to_string(kChunk), "1", Hash128Hex(HashBytes128(Fill(kChunk, 7)))});
  Rank(tx, 0, "STATE", {"s", "KIND", "rng", "BLOB", "seed"});
  Rank(tx, 0, "PREPARE");
  Run({"CKPT.COMMIT", "run", tx, "TAG", "t"});
  Run({"CKPT.CREATE", "run", "KEEP", "9"});
  for (uint64_t step : {5, 6, 7}) Save(step, "v");
  Run({"CKPT.DEL", "run", "5"});
  harness_.AdvanceMs(50);
  Run({"CKPT.RETAIN", "run", "KEEP", "1", "EVERY", "3"});
  Run({"CKPT.DEL", "run", "6"});
  harness_.AdvanceMs(50);
  Run({"CKPT.ABORT", "run", Begin(8), "REASON", "no"});
  Run({"CKPT.ROLLBACK", "run", "3"});
  const std::string open = Begin(4);
  DeclareU8(open, "w", 10);
  Put(open, "w", 3, "abc");
  const std::string list = Run({"CKPT.LIST", "run"}), holes = Rank(open, 0, "OFFSET");
  const std::string third = Bytes("3", "w"), told = Run({"CKPT.LOG", "run"});
  for (const char* event : {"expired", "deleted", "aborted", "rolledback"}) {
    EXPECT_NE(told.find(event), std::string::npos) << event;
  }

  const std::string log = harness_.engine().propagation.Take().log;
  EXPECT_NE(log.find("EXPIRED"), std::string::npos);
  Run({"DEL", "run"});
  harness_.AdvanceMs(7000);
  Replay(harness_.engine(), log);
  EXPECT_EQ(Run({"CKPT.LIST", "run"}), list);
  EXPECT_EQ(Run({"CKPT.LOG", "run"}), told) << "when it happened, not when it was read";
  EXPECT_EQ(Rank(open, 0, "OFFSET"), holes);
  EXPECT_EQ(Bytes("3", "w"), third);
  EXPECT_EQ(Field(Call({"CKPT.VERIFY", "run", "3", "DEEP"}), "ok"), ":1");
  EXPECT_EQ(Word(Put(lost, "w", 0, "a")), "-CKPTTIMEOUT");
  EXPECT_EQ(Put(open, "w", 0, "xyz"), ":6") << "and the upload goes on";
}

/// Logs of older servers do not tell when: then it is the time of the replay.
TEST_F(CkptTest, WordsOfALogWithoutTimesAreReplayed) {
  for (uint64_t step : {1, 2, 3}) Save(step, "v");
  Run({"CKPT.BEGIN", "run", "7", "TX", "gone"});
  Run({"CKPT.BEGIN", "run", "8", "TX", "late"});
  const auto line = [](const Lines& words) {
    std::string out = "*" + std::to_string(words.size()) + "\r\n";
    for (const std::string& word : words) {
      out += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
    }
    return out;
  };
  Replay(harness_.engine(), line({"CKPT.ABORT", "run", "gone", "REASON", "r"}) +
                                line({"CKPT.ABORT", "run", "late", "EXPIRED"}) +
                                line({"CKPT.DEL", "run", "1"}) +
                                line({"CKPT.ROLLBACK", "run", "2"}));
  const RespValue told = Call({"CKPT.LOG", "run"});
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(told.elements[i].elements[0].integer, harness_.now_ms()) << i;
  }
  EXPECT_EQ(Bytes("LATEST", "w"), "v");
  EXPECT_EQ(Call({"CKPT.LIST", "run"}).elements.size(), 2u);
  EXPECT_EQ(Word(Put("gone", "w", 0, "a")), "-CKPTABORTED");
  EXPECT_EQ(Word(Put("late", "w", 0, "a")), "-CKPTTIMEOUT");
}

/// As a job does whose ranks are killed once a second: each attempt leaves a transaction behind.
TEST_F(CkptTest, AttemptsInQuickSuccessionAreNeverRefused) {
  harness_.engine().propagation.Take();
  Run({"CKPT.CREATE", "run", "MAXCONCURRENT", "1"});
  const std::string bytes = Fill(kChunk, 3);
  const std::string hash = Hash128Hex(HashBytes128(bytes));
  std::string first, last, tx;
  for (uint64_t attempt = 1; attempt <= tensor::kMaxOpenTransactions + 6; ++attempt) {
    tx = Begin(5, {"ATTEMPT", std::to_string(attempt)});
    ASSERT_EQ(tx.size(), 16u) << tx << " attempt " << attempt;
    if (attempt == 1) first = tx;
    if (attempt == tensor::kMaxOpenTransactions + 5) {
      last = tx;
      DeclareU8(tx, "w", kChunk);
      Put(tx, "w", 0, bytes);
    }
    harness_.AdvanceMs(10);
  }
  EXPECT_EQ(Word(Rank(first, 0, "PREPARE")), "-CKPTFENCED") << "forgotten, but by name";
  EXPECT_EQ(Word(Rank(last, 0, "PREPARE")), "-CKPTFENCED");
  EXPECT_EQ(Call({"CKPT.HAVE", "run", tx, "1", hash}).text, "\x80") << "the latest keep theirs";
  DeclareU8(tx, "w", 3);
  Put(tx, "w", 0, "abc");

  const std::string log = harness_.engine().propagation.Take().log;
  Run({"DEL", "run"});
  Replay(harness_.engine(), log);
  const std::string payload = Call({"DUMP", "run"}).text;
  Run({"DEL", "run"});
  EXPECT_EQ(Run({"RESTORE", "run", "0", payload}), "+OK") << "a log is not refused as a file";
  EXPECT_EQ(Rank(tx, 0, "PREPARE")[0], '[');
  EXPECT_EQ(Run({"CKPT.COMMIT", "run", tx})[0], '[');
}

// --- long work ---

TEST_F(CkptTest, PutsOfManyClientsAreHashedBesideOthersAndMeetInTheShard) {
  const size_t size = 8 * kChunk;
  const std::string bytes = Fill(size, 8);
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", size);
  FakeClient first(harness_), second(harness_);
  const auto put = [&](FakeClient& client, size_t at) {
    client.Send({{"CKPT.PUT", "run", tx, "RANK", "0", "w", "AT", std::to_string(at), "BLOB",
                  bytes.substr(at, size / 2)}});
  };
  put(second, size / 2);
  put(first, 0);
  second.RunTurn();
  first.RunTurn();
  EXPECT_EQ(first.TakeReplies() + second.TakeReplies(), "") << "both are being hashed";
  EXPECT_EQ(Run({"CKPT.LIST", "run"}), "[]") << "others are served";
  std::string replies;
  while (replies.size() < 8) {
    if (!first.input_ready && !second.input_ready) {
      ASSERT_TRUE(harness_.RunPosted());
    }
    if (first.input_ready) first.RunTurn();
    if (second.input_ready) second.RunTurn();
    replies += first.TakeReplies() + second.TakeReplies();
  }
  while (Rank(tx, 0, "PREPARE")[0] != '[') {
    ASSERT_TRUE(harness_.RunPosted());
    if (first.input_ready) first.RunTurn();
    if (second.input_ready) second.RunTurn();
  }
  Run({"CKPT.COMMIT", "run", tx});
  EXPECT_EQ(Bytes("1", "w"), bytes);
}

TEST_F(CkptTest, AnAbortDuringAPutWins) {
  const std::string tx = Begin(1);
  DeclareU8(tx, "w", 4 * kChunk);
  FakeClient client(harness_);
  client.Send({{"CKPT.PUT", "run", tx, "RANK", "0", "w", "AT", "0", "BLOB", Fill(4 * kChunk, 1)}});
  client.RunTurn();
  EXPECT_EQ(Run({"CKPT.ABORT", "run", tx}), "+OK");
  EXPECT_EQ(Wait(client), "-CKPTABORTED transaction " + tx + " was aborted\r\n");
  EXPECT_EQ(Run({"CKPT.ABORT", "run", tx}), "+OK") << "again";
}

/// The bytes are being hashed for a shard of 4 chunks while another of that name takes its place.
TEST_F(CkptTest, APutIsOfTheShardThatItWasSentTo) {
  const std::string bytes = Fill(4 * kChunk, 1);
  for (const size_t size : {size_t{10}, kChunk, 4 * kChunk}) {
    const std::string tx = Begin(1, {"TX", "mine"});
    DeclareU8(tx, "w", 4 * kChunk);
    FakeClient client(harness_);
    client.Send({{"CKPT.PUT", "run", tx, "RANK", "0", "w", "AT", "0", "BLOB", bytes}});
    client.RunTurn();
    EXPECT_EQ(Run({"DEL", "run"}), ":1");
    EXPECT_EQ(Begin(1, {"TX", "mine"}), "mine");
    EXPECT_EQ(DeclareU8(tx, "w", size), ":1");
    const std::string reply = Wait(client);
    if (size == bytes.size()) {
      EXPECT_EQ(reply, ":" + std::to_string(size) + "\r\n") << "it is the same shard again";
    } else {
      EXPECT_EQ(reply, "-CKPTDIVERGED 'w' was declared anew while these bytes came in\r\n");
      EXPECT_NE(Rank(tx, 0, "OFFSET", {"w"}).find("\"offset\", :0"), std::string::npos);
    }
    Run({"DEL", "run"});
  }
}

TEST_F(CkptTest, MemoryLimitsTakeNoRunThatHasSomething) {
  const auto may_evict = [this] {
    Database& db = harness_.engine().keyspace.db(0);
    return db.Peek(db.MakeKey("run"))->MayEvict();
  };
  const std::string tx = Begin(1);
  EXPECT_FALSE(may_evict()) << "an open transaction";
  EXPECT_EQ(Run({"CKPT.ABORT", "run", tx}), "+OK");
  EXPECT_TRUE(may_evict()) << "nothing is left";
  const std::string late = Begin(1, {"TIMEOUT", "100"});
  EXPECT_FALSE(may_evict());
  harness_.AdvanceMs(101);
  EXPECT_EQ(Word(Rank(late, 0, "PREPARE")), "-CKPTTIMEOUT");
  EXPECT_TRUE(may_evict()) << "it has expired";
  EXPECT_FALSE(Save(2, Fill(1000, 1)).starts_with("-"));
  EXPECT_FALSE(may_evict()) << "LATEST";
  harness_.SetSetting("maxmemory", "1");
  harness_.SetSetting("maxmemory-policy", "allkeys-lru");
  EXPECT_EQ(Word(Save(3, Fill(1000, 2))), "-OOM");
  harness_.SetSetting("maxmemory", "0");
  EXPECT_EQ(Bytes("LATEST", "w"), Fill(1000, 1));
}

}  // namespace
}  // namespace cairn
