#include <knowhere_plugin/milvus23/counters.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <knowhere_plugin/preload/plugin_log.h>

namespace knowhere_plugin::milvus23 {

namespace {

struct Record {
    char name[24];
    std::atomic<uint64_t> value;
};
static_assert(sizeof(Record) == 32);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

constexpr size_t kRecords = size_t(Counter::count_);
constexpr uint64_t kFormat = 1;

/// in the order of Counter
constexpr const char* kNames[] = {
        SCANN_PLUGIN_NAME, "pid",
        "nodes",           "live_nodes",
        "builds",          "build_failures",
        "build_rows",      "build_ns",
        "repairs",         "serializes",
        "blob_bytes",      "loads",
        "load_failures",   "load_rows",
        "load_ns",         "searches",
        "queries",         "max_nq",
        "filtered",        "search_failures",
        "search_ns",       "ranges",
        "range_queries",   "range_failures",
        "range_ns",        "vector_calls",
        "vectors",
};
static_assert(sizeof(kNames) / sizeof(kNames[0]) == kRecords);
static_assert(sizeof(SCANN_PLUGIN_NAME) <= sizeof(Record::name));

Record in_memory[kRecords];
// changes once, before the node is registered
Record* records = in_memory;

std::atomic<uint64_t>& value_of(Counter counter) {
    return records[size_t(counter)].value;
}

/// A mapping of a new file, renamed to `path` when complete; readers of an
/// older one keep that. nullptr with errno set.
Record* map_file(const char* path) {
    char unfinished[4096];
    int length = snprintf(
            unfinished, sizeof(unfinished), "%s.%d", path, int(getpid()));
    if (length < 0 || size_t(length) >= sizeof(unfinished)) {
        errno = ENAMETOOLONG;
        return nullptr;
    }
    int file = open(unfinished, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) {
        return nullptr;
    }
    // zeros are written: in a sparse file on a full disk, a store would kill
    bool written = write(file, in_memory, sizeof(in_memory)) ==
                   ssize_t(sizeof(in_memory));
    void* mapped = !written ? MAP_FAILED
                            : mmap(nullptr,
                                   sizeof(in_memory),
                                   PROT_READ | PROT_WRITE,
                                   MAP_SHARED,
                                   file,
                                   0);
    int error = errno;
    close(file);
    if (mapped == MAP_FAILED || rename(unfinished, path) != 0) {
        error = mapped == MAP_FAILED ? error : errno;
        if (mapped != MAP_FAILED) {
            munmap(mapped, sizeof(in_memory));
        }
        unlink(unfinished);
        errno = error;
        return nullptr;
    }
    return static_cast<Record*>(mapped);
}

} // namespace

void open_counters() noexcept {
    for (size_t i = 0; i < kRecords; i++) {
        std::strncpy(in_memory[i].name, kNames[i], sizeof(Record::name) - 1);
    }
    value_of(Counter::library) = kFormat;
    value_of(Counter::pid) = uint64_t(getpid());
    const char* path = std::getenv("SCANN_PLUGIN_STATS");
    if (path == nullptr || path[0] == 0) {
        return;
    }
    struct stat existing;
    if (stat(path, &existing) == 0 && !S_ISREG(existing.st_mode)) {
        log_line("no counters in %s: not a regular file", path);
        return; // it is a pipe or a device, which must not be replaced
    }
    Record* mapped = map_file(path);
    if (mapped == nullptr) {
        log_line("no counters in %s: %m", path);
        return;
    }
    records = mapped;
}

void count(Counter counter, uint64_t by) noexcept {
    value_of(counter).fetch_add(by, std::memory_order_relaxed);
}

void count_down(Counter counter) noexcept {
    value_of(counter).fetch_sub(1, std::memory_order_relaxed);
}

void count_max(Counter counter, uint64_t value) noexcept {
    auto& known = value_of(counter);
    uint64_t seen = known.load(std::memory_order_relaxed);
    while (seen < value && !known.compare_exchange_weak(
                                   seen, value, std::memory_order_relaxed)) {
    }
}

} // namespace knowhere_plugin::milvus23
