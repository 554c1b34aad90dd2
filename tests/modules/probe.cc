// A module for tests of the module host: as small as one can be, in the C style of module_api.h.
// Arguments: "type" registers a value type with its commands; "fail", "undescribed", "taken" and
// "unfound" do what a broken module does.

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "server/engine/module_api.h"

namespace {

/// All that the module has; one per load.
struct Probe {
  const CairnApi* api;
  CairnModule* self;
  CairnType* type = nullptr;
  std::atomic<int> jobs_made{0}, jobs_dropped{0};
};

CairnBytes Bytes(const std::string& text) { return {text.data(), text.size()}; }
std::string Text(CairnBytes bytes) { return {bytes.data, bytes.size}; }

// probe.echo word
void Echo(CairnContext* ctx, void* data) {
  const CairnApi& api = *static_cast<Probe*>(data)->api;
  api.reply_bulk(ctx, api.arg(ctx, 1));
}

// probe.kinds: one reply of each kind
void Kinds(CairnContext* ctx, void* data) {
  const CairnApi& api = *static_cast<Probe*>(data)->api;
  api.reply_array(ctx, 8);
  api.reply_ok(ctx);
  api.reply_integer(ctx, -1);
  api.reply_unsigned(ctx, 18446744073709551615u);
  api.reply_double(ctx, 1.5);
  api.reply_bulk(ctx, {"b", 1});
  CairnBlob* blob = api.blob_allocate(static_cast<Probe*>(data)->self, 100000);
  std::memset(api.blob_mutable_data(blob), 'x', 100000);
  const CairnBlobPart parts[] = {{blob, 0, 2}, {blob, 99999, 1}};
  api.reply_blobs(ctx, parts, 2);
  api.blob_release(blob);
  api.reply_null(ctx);
  api.reply_map(ctx, 1);
  api.reply_bulk(ctx, {"k", 1});
  api.reply_integer(ctx, 1);
}

// probe.fail: replies are dropped when an error follows
void Fail(CairnContext* ctx, void* data) {
  const CairnApi& api = *static_cast<Probe*>(data)->api;
  api.reply_array(ctx, 2);
  api.reply_integer(ctx, 1);
  api.reply_error(ctx, {"PROBE it failed", 15});
}

/// A job that doubles the length of its text on a worker.
struct Doubling {
  Probe* probe;
  std::string text;
  std::thread::id made_by = std::this_thread::get_id();
  bool elsewhere = false;
};

// probe.double word: replies [word twice, whether it was worked on another thread, jobs dropped]
void Double(CairnContext* ctx, void* data) {
  auto* probe = static_cast<Probe*>(data);
  auto* state = new Doubling{probe, Text(probe->api->arg(ctx, 1))};
  ++probe->jobs_made;
  const CairnJob job = {state,
                        [](void* p) {
                          auto* doubling = static_cast<Doubling*>(p);
                          doubling->text += doubling->text;
                          doubling->elsewhere = doubling->made_by != std::this_thread::get_id();
                        },
                        [](CairnContext* again, void* p) {
                          auto* doubling = static_cast<Doubling*>(p);
                          const CairnApi& api = *doubling->probe->api;
                          if (Text(api.arg(again, 1)) == "bad") {
                            api.reply_error(again, {"PROBE bad word", 14});
                            return;
                          }
                          api.reply_array(again, 3);
                          api.reply_bulk(again, Bytes(doubling->text));
                          api.reply_integer(again, doubling->elsewhere);
                          api.reply_integer(again, doubling->probe->jobs_dropped);
                        },
                        [](void* p) {
                          auto* doubling = static_cast<Doubling*>(p);
                          ++doubling->probe->jobs_dropped;
                          delete doubling;
                        }};
  if (probe->api->run_later(ctx, &job) == CAIRN_OK) return;
  job.work(state);
  job.finish(ctx, state);
  job.drop(state);
}

// probe.await key: as probe.double, once the key is there; null after a second
void Await(CairnContext* ctx, void* data) {
  const CairnApi& api = *static_cast<Probe*>(data)->api;
  if (api.key_exists(ctx, api.arg(ctx, 1)) != 0) return Double(ctx, data);
  if (api.wait_for_key(ctx, api.arg(ctx, 1), 1000) != CAIRN_OK) api.reply_null(ctx);
}

// probe.jobs: [made, dropped]
void Jobs(CairnContext* ctx, void* data) {
  auto* probe = static_cast<Probe*>(data);
  probe->api->reply_array(ctx, 2);
  probe->api->reply_integer(ctx, probe->jobs_made);
  probe->api->reply_integer(ctx, probe->jobs_dropped);
}

// probe.set key text [ms]
void Set(CairnContext* ctx, void* data) {
  auto* probe = static_cast<Probe*>(data);
  const CairnApi& api = *probe->api;
  const CairnBytes key = api.arg(ctx, 1);
  const bool expires = api.arg_count(ctx) > 3;
  api.value_set(ctx, key, probe->type, new std::string(Text(api.arg(ctx, 2))),
                expires ? CAIRN_EXPIRY_AT : CAIRN_EXPIRY_KEEP,
                expires ? api.now_ms(ctx) + std::stoll(Text(api.arg(ctx, 3))) : 0);
  api.changed(ctx, key, "probe.set");
  api.reply_ok(ctx);
}

// probe.get key
void Get(CairnContext* ctx, void* data) {
  auto* probe = static_cast<Probe*>(data);
  void* value = nullptr;
  switch (probe->api->value_get(ctx, probe->api->arg(ctx, 1), probe->type, CAIRN_READ, &value)) {
    case CAIRN_ABSENT:
      return probe->api->reply_null(ctx);
    case CAIRN_FOUND:
      return probe->api->reply_bulk(ctx, Bytes(*static_cast<std::string*>(value)));
    default:
      probe->api->reply_error(ctx, {"WRONGTYPE not a probe", 21});
  }
}

int Save(const void* value, CairnWriter* writer, void* data) {
  const CairnApi& api = *static_cast<Probe*>(data)->api;
  const auto& text = *static_cast<const std::string*>(value);
  if (api.save_unsigned(writer, text.size()) != CAIRN_OK) return CAIRN_FAILED;
  return api.save_string(writer, Bytes(text));
}

void* Load(CairnReader* reader, int version, void* data) {
  const CairnApi& api = *static_cast<Probe*>(data)->api;
  uint64_t size = 0;
  CairnBlob* blob = nullptr;
  if (version != 3 || api.load_unsigned(reader, &size) != CAIRN_OK ||
      api.load_string(reader, &blob) != CAIRN_OK) {
    return nullptr;
  }
  auto* text = new std::string(api.blob_data(blob), api.blob_size(blob));
  api.blob_release(blob);
  if (text->size() == size) return text;
  delete text;
  return nullptr;
}

constexpr CairnKeySpec kKey = {CAIRN_KEYS_RANGE, 1, 0, 1, CAIRN_KEY_RW};

int Register(Probe* probe, bool with_type) {
  const CairnApi& api = *probe->api;
  const auto add = [&](const char* name, int arity, uint64_t flags, CairnKeySpec key,
                       CairnCommandFn run) {
    const CairnCommandSpec spec = {name,    arity,  flags,      {key},         nullptr,
                                   "1.0.0", "O(1)", "A probe.", "word:string", run};
    return api.register_command(probe->self, &spec);
  };
  int failed = add("probe.echo", 2, CAIRN_CMD_FAST, {}, Echo) |
               add("probe.kinds", 1, 0, {}, Kinds) | add("probe.fail", 1, 0, {}, Fail) |
               add("probe.double", 2, 0, {}, Double) | add("probe.jobs", 1, 0, {}, Jobs) |
               add("probe.await", 2, CAIRN_CMD_BLOCKING, {}, Await);
  if (!with_type) return failed;
  const CairnTypeSpec type = {
      "probe--03",
      3,
      "probe",
      Save,
      Load,
      [](void* value) { delete static_cast<std::string*>(value); },
      [](const void* value) { return static_cast<const std::string*>(value)->size(); },
      [](const void*) { return size_t{1}; }};
  probe->type = api.register_type(probe->self, &type);
  if (probe->type == nullptr) return CAIRN_FAILED;
  return failed | add("probe.set", -3, CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM, kKey, Set) |
         add("probe.get", 2, CAIRN_CMD_READONLY, kKey, Get);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int CairnModule_OnLoad(const CairnApi* api,
                                                                         CairnModule* self,
                                                                         int argc,
                                                                         const char* const* argv) {
  const std::string word = argc > 0 ? argv[0] : "";
  if (word == "undescribed") return CAIRN_OK;
  auto* probe = new Probe{api, self};
  api->module_describe(self, "probe", 7, probe,
                       [](void* data) { delete static_cast<Probe*>(data); });
  if (word == "fail") return CAIRN_FAILED;
  if (word == "taken") {
    const CairnCommandSpec spec = {"get", 2, 0, {}, nullptr, "1.0.0", "O(1)", "Taken.", "", Echo};
    return api->register_command(self, &spec);
  }
  if (word == "unfound") {
    const CairnKeySpec somewhere = {CAIRN_KEYS_UNKNOWN, 1, 0, 1, CAIRN_KEY_RW};
    const CairnCommandSpec spec = {
        "probe.unfound",          2,  0,   {somewhere}, nullptr, "1.0.0", "O(1)",
        "Its keys are nobody's.", "", Echo};
    return api->register_command(self, &spec);
  }
  return Register(probe, word == "type");
}
