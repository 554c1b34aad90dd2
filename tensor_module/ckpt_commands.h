#pragma once

// The registrars of the command files that know files. Thread: executor.

namespace cairn::tensor {

class Module;

/// CKPT.EXPORT and IMPORT. CAIRN_OK or CAIRN_FAILED.
int RegisterCkptFileCommands(Module& module);

}  // namespace cairn::tensor
