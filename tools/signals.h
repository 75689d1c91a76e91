// Signals: only the program installs handlers, never the library.
#pragma once

#include "engine/base/cancel.h"

namespace tern {

// SIGINT, SIGTERM, SIGHUP: the first cancels the token, a second one leaves at once with 128 + its number. SIGPIPE and SIGXFSZ are ignored (a write reports them).
// SIGBUS (a mapped file was truncated, or its disk failed) prints one line naming the file and leaves with 3. Descriptors 0 to 2 are opened if
// they are closed, so that no file of ours can land on them.
void InstallSignalHandlers();

CancelToken& ProgramCancelToken();
int ArrivedSignal();             // 0: none since the start or the last ForgetArrivedSignal
void ForgetArrivedSignal();      // also resets the token
void ReportBusErrorsAsJson();    // with --json: the line goes to stdout as {"error": ...} too

}  // namespace tern
