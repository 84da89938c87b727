#include <knowhere_plugin/preload/plugin_log.h>

#include <cstdarg>
#include <cstdio>

#include <unistd.h>

namespace knowhere_plugin {

void log_line(const char* format, ...) noexcept {
    constexpr char kStart[] = "faiss_ext: " SCANN_PLUGIN_NAME " ";
    constexpr size_t kStartSize = sizeof(kStart) - 1;
    char line[4096];
    __builtin_memcpy(line, kStart, kStartSize);
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(
            line + kStartSize,
            sizeof(line) - kStartSize - 1,
            format,
            arguments);
    va_end(arguments);
    size_t room = sizeof(line) - kStartSize - 2;
    size_t size = kStartSize + (wanted < 0              ? 0
                                : size_t(wanted) < room ? size_t(wanted)
                                                        : room);
    for (size_t i = 0; i < size; i++) {
        if (line[i] == '\n' || line[i] == '\r') {
            line[i] = ' ';
        }
    }
    line[size++] = '\n';
    // an error of writing to the log cannot be reported
    [[maybe_unused]] ssize_t written = write(STDERR_FILENO, line, size);
}

} // namespace knowhere_plugin
