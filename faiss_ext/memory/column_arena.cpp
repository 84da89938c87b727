#include <faiss_ext/memory/column_arena.h>

#include <algorithm>
#include <new>

#include <sys/mman.h>
#include <unistd.h>

namespace faiss_ext {

namespace {

constexpr size_t kHugePage = size_t(2) << 20;

uint8_t* round_up(uint8_t* p, size_t alignment) {
    uintptr_t at = reinterpret_cast<uintptr_t>(p);
    return p + (alignment - at % alignment) % alignment;
}

} // namespace

ColumnArena::ColumnArena(size_t bytes) : size_(bytes) {
    if (bytes == 0) {
        return;
    }
    // room to begin at a huge page
    size_t spare = bytes < kHugePage ? 0 : kHugePage;
    if (bytes > SIZE_MAX - spare) {
        throw std::bad_alloc();
    }
    mapped_bytes_ = bytes + spare;
    mapping_ =
            mmap(nullptr,
                 mapped_bytes_,
                 PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS,
                 -1,
                 0);
    if (mapping_ == MAP_FAILED) {
        throw std::bad_alloc();
    }
    data_ = static_cast<uint8_t*>(mapping_);
#ifdef MADV_HUGEPAGE
    if (spare > 0) {
        data_ = round_up(data_, kHugePage);
        // Whole pages only: the last, small part must not take 2 MB. A system
        // without huge pages refuses; nothing is lost then.
        (void)madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
    }
#endif
}

ColumnArena::~ColumnArena() {
    if (mapping_ != nullptr) {
        munmap(mapping_, mapped_bytes_);
    }
}

void ColumnArena::give_back(const void* p, size_t n) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    uint8_t* begin = data_ + (static_cast<const uint8_t*>(p) - data_);
    uint8_t* end = begin + n;
    uint8_t* first = round_up(begin, page);
    uint8_t* last = end - reinterpret_cast<uintptr_t>(end) % page;
    if (first < last && madvise(first, last - first, MADV_DONTNEED) == 0) {
        given_back_ += last - first;
    }
}

} // namespace faiss_ext
