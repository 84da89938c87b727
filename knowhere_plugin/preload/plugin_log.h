/* One line on stderr, which hosts keep in their logs. */

#pragma once

namespace knowhere_plugin {

/// "faiss_ext: <library> <text>\n" by one write(); line breaks become blanks.
__attribute__((format(printf, 1, 2))) void log_line(
        const char* format,
        ...) noexcept;

} // namespace knowhere_plugin
