#pragma once

// The module ABI: what a shared library that the server opens may ask of it, as one table of plain
// C function pointers. Nothing of the server is resolved by symbol and no C++ type crosses. A
// module exports CairnModule_OnLoad, checks abi_version, keeps the table's address and registers
// commands and types. Functions that take a CairnContext are for the executor thread, inside a
// command; blob functions, time, random and log may be called from any thread.
//
// Rules that modules keep:
//
//   M1  A value handed to value_set is frozen: it is never changed again, because snapshots, copies
//       and replies read it without a lock. A change is a new value, which may share blobs with it.
//   M2  save, memory_usage and free_effort run on any thread, at the same time as commands; free
//       runs once, on any thread.
//   M3  Pointers returned by arg and value_get are borrowed: they end with the command, or with the
//       first call that replaces or deletes that key.
//   M4  Entries are only ever added at the end of CairnApi; struct_size tells which are there.
//   M5  A job's work runs on a worker thread and touches only its state, and what blobs and values
//       the state keeps alive. Its finish looks keys up again: they may have changed meanwhile.

#include <stddef.h>
#include <stdint.h>

#define CAIRN_MODULE_ABI_VERSION 2

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CairnModule CairnModule;   /* the module itself, as the server knows it */
typedef struct CairnType CairnType;       /* a registered value type */
typedef struct CairnContext CairnContext; /* one run of one command */
typedef struct CairnBlob CairnBlob;       /* counted bytes, frozen once shared */
typedef struct CairnWriter CairnWriter;   /* where save emits a value */
typedef struct CairnReader CairnReader;   /* where load reads it back, in the same order */

typedef struct CairnBytes {
  const char* data;
  size_t size;
} CairnBytes;

/* A window onto a blob. */
typedef struct CairnBlobPart {
  CairnBlob* blob;
  size_t offset;
  size_t size;
} CairnBlobPart;

/* A command in two halves, see run_later. */
typedef struct CairnJob {
  void* state;
  /* The long part, on a worker thread. */
  void (*work)(void* state);
  /* The command again, on the executor, with the same arguments: replies and effects. */
  void (*finish)(CairnContext* ctx, void* state);
  /* Frees the state. Always last and on the executor; without finish when the client went away. */
  void (*drop)(void* state);
} CairnJob;

enum { CAIRN_OK = 0, CAIRN_FAILED = -1, CAIRN_NO_SPACE = -2 };
enum CairnLookup { CAIRN_ABSENT = 0, CAIRN_FOUND = 1, CAIRN_WRONG_TYPE = 2 };
enum CairnAccess { CAIRN_READ = 0, CAIRN_WRITE = 1 };
/* What becomes of a key's TTL when its value is set. */
enum CairnExpiry { CAIRN_EXPIRY_NONE = 0, CAIRN_EXPIRY_KEEP = 1, CAIRN_EXPIRY_AT = 2 };
enum CairnLogLevel {
  CAIRN_LOG_DEBUG = 0,
  CAIRN_LOG_VERBOSE = 1,
  CAIRN_LOG_NOTICE = 2,
  CAIRN_LOG_WARNING = 3
};

/* Command flags; the rest of COMMAND INFO follows from them. */
enum CairnCommandFlag {
  CAIRN_CMD_WRITE = 1 << 0,
  CAIRN_CMD_READONLY = 1 << 1,
  CAIRN_CMD_DENY_OOM = 1 << 2,
  CAIRN_CMD_FAST = 1 << 3,
  CAIRN_CMD_BLOCKING = 1 << 4, /* may call wait_for_key and wait_and_look */
  CAIRN_CMD_NO_MULTI = 1 << 5, /* refused inside MULTI */
  CAIRN_CMD_ADMIN = 1 << 6     /* touches the machine beyond the keyspace: @admin, @dangerous */
};
/* What is true of an effect once its command's reply has left. */
enum CairnDurability {
  CAIRN_IN_MEMORY = 0, /* of this process */
  CAIRN_LOGGED = 1,    /* written to the append-only file, synced later */
  CAIRN_SYNCED = 2     /* on the disk: the reply, and all that saw the effect, wait for it */
};
enum CairnKeyFlag {
  CAIRN_KEY_RO = 1 << 0,     /* reads the value */
  CAIRN_KEY_RW = 1 << 1,     /* reads and changes it */
  CAIRN_KEY_OW = 1 << 2,     /* replaces it unread */
  CAIRN_KEY_PARTIAL = 1 << 3 /* not every key can be found by position */
};
enum CairnKeyFind {
  CAIRN_KEYS_NONE = 0,
  CAIRN_KEYS_RANGE = 1,
  CAIRN_KEYS_COUNTED = 2,
  CAIRN_KEYS_UNKNOWN = 3
};

/* Where keys stand among the arguments. RANGE: from `begin` to `last` (relative to it, negative
   from the end) every `step`. COUNTED: arg(begin) is a count and that many keys follow it. UNKNOWN:
   somewhere from `begin` on, and find_keys tells where. */
typedef struct CairnKeySpec {
  int find;
  int begin;
  int last;
  int step;
  uint32_t flags;
} CairnKeySpec;

enum { CAIRN_MAX_KEY_SPECS = 4 };

/* The server reports `reply_error`'s line when the function called it, and drops other replies. */
typedef void (*CairnCommandFn)(CairnContext* ctx, void* module_data);

/* For what an initializer of a C++ module may leave out. */
#ifdef __cplusplus
#define CAIRN_OR_NULL = NULL
#else
#define CAIRN_OR_NULL
#endif

/* Finds the keys among the `count` arguments (args[0] is the command's name): writes the positions
   of up to `most` of them, and returns how many there are; 0 when the arguments make no sense. ACLs
   and COMMAND GETKEYS go by it, so it must find every key that the command would touch. */
typedef size_t (*CairnFindKeysFn)(const CairnBytes* args, size_t count, size_t* positions,
                                  size_t most);

/* Strings are copied at registration. */
typedef struct CairnCommandSpec {
  const char* name; /* lower case */
  int arity;        /* counts the name; negative: at least */
  uint64_t flags;   /* CairnCommandFlag */
  CairnKeySpec keys[CAIRN_MAX_KEY_SPECS];
  CairnFindKeysFn find_keys
      CAIRN_OR_NULL; /* needed with CAIRN_KEYS_UNKNOWN, with keys[0].flags; else NULL */
  const char* since;
  const char* complexity;
  const char* summary;
  const char* synopsis; /* arguments in the mini-language of command_docs.h */
  CairnCommandFn run;
} CairnCommandSpec;

/* Where a save of values goes to, see save_target. Borrowed: ends with the save of the value. */
typedef struct CairnSaveTarget {
  CairnBytes directory; /* the server's, absolute */
  uint64_t number;      /* of the save: ascending within a process, from 1 */
  /* The files that the save will become, relative to `directory`: one or two. */
  CairnBytes files[2];
  size_t file_count;
} CairnSaveTarget;

typedef struct CairnTypeSpec {
  const char* name;      /* 9 of A-Z a-z 0-9 - _ : the type's identity in files */
  int encoding_version;  /* 0..1023, given back to load */
  const char* type_name; /* what TYPE replies */
  /* Emits the value. Returns CAIRN_OK, or what an emit function returned. */
  int (*save)(const void* value, CairnWriter* writer, void* module_data);
  /* The value, or NULL when what was read makes none. */
  void* (*load)(CairnReader* reader, int encoding_version, void* module_data);
  void (*free)(void* value);
  size_t (*memory_usage)(const void* value); /* bytes */
  size_t (*free_effort)(const void* value);  /* about one per allocation a free gives back */
} CairnTypeSpec;

typedef struct CairnApi {
  uint32_t abi_version;
  uint32_t struct_size;

  /* --- registration: only inside CairnModule_OnLoad --- */
  /* Name and version for MODULE LIST. `data` is handed to commands and loads; `free_data` ends it
     with the server. Must be the first call. */
  int (*module_describe)(CairnModule* module, const char* name, int version, void* data,
                         void (*free_data)(void*));
  /* CAIRN_FAILED when the name is taken or the spec contradicts itself. */
  int (*register_command)(CairnModule* module, const CairnCommandSpec* spec);
  /* NULL when the name is ill-formed or taken. */
  CairnType* (*register_type)(CairnModule* module, const CairnTypeSpec* spec);

  /* --- arguments: arg 0 is the command's name --- */
  size_t (*arg_count)(CairnContext* ctx);
  CairnBytes (*arg)(CairnContext* ctx, size_t index);
  /* The blob the argument was received into, with a reference for the caller; NULL for short ones.
   */
  CairnBlob* (*arg_blob)(CairnContext* ctx, size_t index);

  /* --- replies; maps and doubles fall back in RESP2 as Redis's do --- */
  void (*reply_ok)(CairnContext* ctx);
  void (*reply_integer)(CairnContext* ctx, int64_t value);
  void (*reply_unsigned)(CairnContext* ctx, uint64_t value); /* above INT64_MAX: a big number */
  void (*reply_double)(CairnContext* ctx, double value);
  void (*reply_bulk)(CairnContext* ctx, CairnBytes bytes);
  /* One bulk string of all parts; long parts are sent from the blobs, not copied. */
  void (*reply_blobs)(CairnContext* ctx, const CairnBlobPart* parts, size_t count);
  void (*reply_null)(CairnContext* ctx);
  void (*reply_array)(CairnContext* ctx, size_t count); /* `count` replies follow */
  void (*reply_map)(CairnContext* ctx, size_t pairs);   /* `pairs` keys and values follow */
  /* `line` stands without '-'. Everything else replied is dropped. */
  void (*reply_error)(CairnContext* ctx, CairnBytes line);

  /* --- keys of the selected database --- */
  /* CairnLookup. *value is a value of `type`. */
  int (*value_get)(CairnContext* ctx, CairnBytes key, CairnType* type, int access, void** value);
  /* Stores and takes over `value`, whatever the key held. expire_at_ms: Unix time, for
   * CAIRN_EXPIRY_AT. */
  void (*value_set)(CairnContext* ctx, CairnBytes key, CairnType* type, void* value, int expiry,
                    int64_t expire_at_ms);
  /* 1 when it was there. */
  int (*key_delete)(CairnContext* ctx, CairnBytes key);
  int (*key_exists)(CairnContext* ctx, CairnBytes key);

  /* --- effects --- */
  /* The key was changed: watchers, save rules and keyspace notifications (class d) hear of it.
     Without a call of it a command has changed nothing, and nothing is propagated. */
  void (*changed)(CairnContext* ctx, CairnBytes key, const char* event);
  /* What the append-only file and replicas get in place of the command as sent; more calls add
   * commands. */
  void (*propagate_as)(CairnContext* ctx, const CairnBytes* args, size_t count);
  /* 1 for a command that no client sent: the append-only file is replayed, or a primary's stream is
     applied. Limits and clocks have been judged already, and nobody reads replies. */
  int (*is_loading)(CairnContext* ctx);
  /* Unix time of this command or transaction. */
  int64_t (*now_ms)(CairnContext* ctx);

  /* --- saving: CAIRN_OK, or CAIRN_FAILED once the receiver has failed --- */
  int (*save_unsigned)(CairnWriter* writer, uint64_t value);
  int (*save_signed)(CairnWriter* writer, int64_t value);
  int (*save_double)(CairnWriter* writer, double value);
  int (*save_string)(CairnWriter* writer, CairnBytes bytes);

  /* --- loading: CAIRN_FAILED when the next item is of another kind or there is none --- */
  int (*load_unsigned)(CairnReader* reader, uint64_t* value);
  int (*load_signed)(CairnReader* reader, int64_t* value);
  int (*load_double)(CairnReader* reader, double* value);
  /* The string as a blob with a reference for the caller. */
  int (*load_string)(CairnReader* reader, CairnBlob** blob);

  /* --- blobs --- */
  /* Warm, aligned memory with undefined contents and one reference; NULL when memory is refused. */
  CairnBlob* (*blob_allocate)(CairnModule* module, size_t size);
  void (*blob_retain)(CairnBlob* blob);
  void (*blob_release)(CairnBlob* blob);
  const char* (*blob_data)(const CairnBlob* blob);
  /* Requires: the caller holds the only reference. */
  char* (*blob_mutable_data)(CairnBlob* blob);
  size_t (*blob_size)(const CairnBlob* blob);
  size_t (*blob_footprint)(const CairnBlob* blob); /* bytes of memory it holds */

  /* --- surroundings --- */
  /* The value in force of a numeric setting (memory in bytes). CAIRN_FAILED when there is none of
   * the name. */
  int (*setting_unsigned)(CairnModule* module, const char* name, uint64_t* value);
  uint64_t (*machine_memory)(CairnModule* module); /* physical, in bytes */
  uint64_t (*random_u64)(CairnModule* module);
  int64_t (*monotonic_us)(CairnModule* module);
  void (*log)(CairnModule* module, int level, CairnBytes line);

  /* --- long work --- */
  /* Suspends the client, runs job->work on a worker while all others are served, then
     job->finish. CAIRN_OK: the job is taken, and the function returns without replies; what it has
     changed is propagated by itself, and seen by others before finish runs. CAIRN_FAILED: this run
     may not wait (a transaction, a log that is loaded): do the work here. A client that was parked
     for a key is parked no more. Gates such as CLIENT PAUSE and memory are asked again before
     finish. */
  int (*run_later)(CairnContext* ctx, const CairnJob* job);

  /* --- waiting and telling --- */
  /* Parks the client until signal_key names `key`, or it is created or removed: the command then
     runs again with the same arguments, and may wait again. CAIRN_OK: parked, and the function
     returns without replies and without effects. CAIRN_FAILED: its time is over, or this run may
     not wait (a transaction, a log that is loaded): reply what there is. timeout_ms: 0 is for ever.
     Requires CAIRN_CMD_BLOCKING. */
  int (*wait_for_key)(CairnContext* ctx, CairnBytes key, int64_t timeout_ms);
  /* Those who wait for the key run again once this command is over. */
  void (*signal_key)(CairnContext* ctx, CairnBytes key);
  /* To all who subscribe to the channel, as PUBLISH. Not while a log is loaded. */
  void (*publish)(CairnContext* ctx, CairnBytes channel, CairnBytes message);
  /* CairnDurability of this command's effects by the settings in force. */
  int (*durability)(CairnContext* ctx);

  /* --- files beside the server's --- */
  /* Bytes that the caller keeps at `data` until release(owner), on any thread, as a blob with one
     reference. */
  CairnBlob* (*blob_wrap)(CairnModule* module, const char* data, size_t size,
                          void (*release)(void* owner), void* owner);
  /* The text of a setting in force, cut to `capacity` bytes. Returns its whole length, or -1 when
     there is none of the name. Executor. */
  int64_t (*setting_text)(CairnModule* module, const char* name, char* out, size_t capacity);
  /* CAIRN_OK when the value goes to files that stay in the server's directory: it may name other
     files there instead of emitting what they hold. CAIRN_FAILED: it must emit everything (DUMP, a
     copy for replicas, a digest). */
  int (*save_target)(CairnWriter* writer, CairnSaveTarget* target);
  /* 1 when what is read comes from a file that a server has written, 0 when a client sent it. */
  int (*load_is_file)(CairnReader* reader);
  /* on_saved is called on the executor with the module's data: `file` holds save `number` now, on
     disk and for good; or, `file` empty, that save is over, well or not, and no more files become
     it. Only inside CairnModule_OnLoad. */
  void (*watch_saves)(CairnModule* module,
                      void (*on_saved)(void* data, CairnBytes file, uint64_t number));

  /* 1 when an append-only file or replicas get this command's effects; else propagate_as does
     nothing, and its arguments need not be made. */
  int (*is_propagated)(CairnContext* ctx);

  /* --- what the append-only file names --- */
  /* CAIRN_OK when this command's effects go to an append-only file in the server's directory and to
     nobody else: what propagate_as is given may name files there instead of carrying what they
     hold. `number` is the latest save that has begun (0: none), files[0] the file that names the
     increments. CAIRN_FAILED: the effects must carry everything (replicas, another directory), or
     there is no such file. The strings end with the next call. */
  int (*log_target)(CairnContext* ctx, CairnSaveTarget* target);
  /* sync_named is called with the module's data before effects are written to the append-only
     file: with `wait` 1 on the thread that is about to write, which does not write unless it
     returns CAIRN_OK (CAIRN_FAILED or CAIRN_NO_SPACE: writes are refused and it is asked again, as
     after an error of the file itself); with `wait` 0 on the executor, where anything but CAIRN_OK
     says that it would have to wait. named_bytes is called on the executor now and then: *named is
     about what the append-only file names, *alive what a rewrite would name, in bytes: the file is
     rewritten when they have come apart as auto-aof-rewrite-percentage and -min-size say of its
     own bytes. Only inside CairnModule_OnLoad. */
  void (*watch_log)(CairnModule* module, int (*sync_named)(void* data, int wait),
                    void (*named_bytes)(void* data, uint64_t* named, uint64_t* alive));
  /* While the append-only file is replayed: this command cannot be applied as it was, and what
     follows must not be: the load ends with `line`, and with it the start of the server. Else as
     reply_error. */
  void (*fail_load)(CairnContext* ctx, CairnBytes line);

  /* --- eviction --- */
  /* may_evict says whether `maxmemory` may take a key with this value; called on the executor.
     Without it all may go. Only inside CairnModule_OnLoad. */
  void (*guard_type)(CairnType* type, int (*may_evict)(const void* value));

  /* As wait_for_key, but the command also runs again when look_ms are over, and may then wait on:
     until timeout_ms after it was parked first, whatever it asks for later. Both are above 0. For
     what ends by a clock that others move, so that nobody names the key when it does. */
  int (*wait_and_look)(CairnContext* ctx, CairnBytes key, int64_t timeout_ms, int64_t look_ms);

  /* --- values under keys, and the clock --- */
  /* on_stored is called on the executor with the module's data when a value of the type has come
     under a key: by value_set, from a file, by RESTORE, RENAME, MOVE, COPY; on_swapped when two
     databases have changed places. Neither may change a key. Nothing tells when a key goes:
     value_at does, when it is asked. Only inside CairnModule_OnLoad. */
  void (*watch_values)(CairnModule* module, CairnType* type,
                       void (*on_stored)(void* data, uint32_t db, CairnBytes key,
                                         const void* value),
                       void (*on_swapped)(void* data, uint32_t a, uint32_t b));
  /* What lies under a key, whether or not its TTL is over, untouched; NULL when it is no value of
     `type`. Borrowed: ends when the key changes. Executor. */
  const void* (*value_at)(CairnModule* module, uint32_t db, CairnBytes key, CairnType* type);
  /* on_tick is called on the executor `hz` times a second, between commands, while it is for this
     server to say what its clock has ended: not on a replica, while a file is loaded or a script
     runs, while writes are paused or refused, nor where DEBUG has stopped active expiry. now_ms:
     Unix time. Only inside CairnModule_OnLoad. */
  void (*watch_clock)(CairnModule* module, void (*on_tick)(void* data, int64_t now_ms));
  /* Runs a command in database `db` as a client would that may do everything, and drops what it
     replies. Only inside on_tick. */
  void (*run_command)(CairnModule* module, uint32_t db, const CairnBytes* args, size_t count);

  /* Runs work(state) on the calling thread, whichever it is. Memory that the thread allocates
     meanwhile and keeps is what the module costs before the first key: INFO counts it as startup,
     not as the dataset's. It has to be over when the module's data is freed. */
  void (*run_as_startup)(CairnModule* module, void (*work)(void* state), void* state);
} CairnApi;

/* Exported by every module. Returns CAIRN_OK when it is ready; otherwise the library is closed
   again. `argv` holds the words behind the path. The table lives as long as the process. */
typedef int (*CairnModuleOnLoadFn)(const CairnApi* api, CairnModule* module, int argc,
                                   const char* const* argv);
#define CAIRN_MODULE_ON_LOAD "CairnModule_OnLoad"

#ifdef __cplusplus
}
#endif
