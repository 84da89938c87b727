/* A preloaded library opens the engine that lies in its own folder. Not by
 * $ORIGIN, which is the folder of the library that calls the real dlopen(): it
 * may be a sanitizer's or a profiler's. */

#pragma once

#include <cstdio>
#include <cstring>

#include <dlfcn.h>

namespace knowhere_plugin {

/// @param here  an address in the library that calls
/// @return      nullptr after an error, see dlerror()
inline void* open_beside(const void* here, const char* name) noexcept {
    Dl_info me;
    char path[4096];
    const char* slash = dladdr(here, &me) == 0 || me.dli_fname == nullptr
                                ? nullptr
                                : std::strrchr(me.dli_fname, '/');
    int folder = slash == nullptr ? 0 : int(slash + 1 - me.dli_fname);
    int size = snprintf(
            path,
            sizeof(path),
            "%.*s%s",
            folder,
            folder == 0 ? "" : me.dli_fname,
            name);
    bool fits = size > 0 && size_t(size) < sizeof(path);
    return dlopen(fits ? path : name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

} // namespace knowhere_plugin
