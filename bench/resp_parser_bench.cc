// Cost of parsing pipelines of SET from one committed read; time is per command.

#include <benchmark/benchmark.h>

#include <cstring>
#include <string>

#include "server/protocol/resp_parser.h"
#include "server/protocol/resp_writer.h"

namespace {

void BM_RespParser_Set(benchmark::State& state) {
  const auto commands = static_cast<size_t>(state.range(0));
  const auto value_bytes = static_cast<size_t>(state.range(1));
  const std::string key = "key:000000000042";
  const std::string value(value_bytes, 'v');
  const std::string one = "*3\r\n$3\r\nSET\r\n$16\r\n" + key + "\r\n$" +
                          std::to_string(value_bytes) + "\r\n" + value + "\r\n";
  std::string wire;
  for (size_t i = 0; i < commands; ++i) wire += one;
  cairn::RequestParser parser;
  cairn::Request request;
  for (auto _ : state) {
    std::memcpy(parser.Reserve(wire.size()).data(), wire.data(), wire.size());
    parser.Commit(wire.size());
    size_t seen = 0;
    while (parser.Next(&request) == cairn::ParseResult::kRequest) {
      seen += request.args.size() == 3 && request.args[2].size() == value_bytes ? 1 : 0;
    }
    if (seen != commands || parser.buffered_bytes() != 0) {
      state.SkipWithError("lost commands");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(commands));
}
BENCHMARK(BM_RespParser_Set)
    ->ArgNames({"pipeline", "value"})
    ->ArgsProduct({{1, 16, 64}, {16, 1024}});

void BM_RespWriter_Bulk(benchmark::State& state) {
  const std::string value(static_cast<size_t>(state.range(0)), 'v');
  cairn::ReplyBuffer buffer;
  cairn::RespWriter writer(&buffer);
  for (auto _ : state) {
    for (int i = 0; i < 64; ++i) writer.Bulk(value);
    benchmark::DoNotOptimize(buffer.size());
    buffer.Consume(buffer.size());
  }
  state.SetItemsProcessed(state.iterations() * 64);
}
BENCHMARK(BM_RespWriter_Bulk)->ArgName("value")->Arg(16)->Arg(1024);

}  // namespace
