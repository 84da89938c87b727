/* Whether the Faiss of this process is the one whose headers the engine was
 * compiled with. */

#pragma once

#include <string>

namespace knowhere_plugin::knowhere_faiss {

/// What differs; empty: nothing that can be seen. A missing function has been
/// seen before, by the dynamic linker.
std::string host_mismatch();

} // namespace knowhere_plugin::knowhere_faiss
