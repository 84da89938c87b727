/* A table of virtual functions shows by its size whether the host has those
 * that the library was written for. */

#pragma once

#include <cstddef>

#include <dlfcn.h>
#include <link.h>

namespace knowhere_plugin {

/// Bytes of what a name stands for in this process. @return 0: no such symbol
inline size_t symbol_size(const char* name) noexcept {
    void* address = dlsym(RTLD_DEFAULT, name);
    Dl_info info;
    const ElfW(Sym)* symbol = nullptr;
    if (address == nullptr ||
        dladdr1(address, &info, (void**)&symbol, RTLD_DL_SYMENT) == 0 ||
        symbol == nullptr) {
        return 0;
    }
    return symbol->st_size;
}

} // namespace knowhere_plugin
