#include <faiss_ext/io/faiss_codes.h>

namespace faiss_ext {

namespace {

constexpr struct {
    std::string_view code;
    const char* name;
} kClasses[] = {
        {"IxFI", "IndexFlat"},
        {"IxF2", "IndexFlat"},
        {"IxFl", "IndexFlat"},
        {"IxHE", "IndexLSH"},
        {"IxHe", "IndexLSH"},
        {"IxPQ", "IndexPQ"},
        {"IxPq", "IndexPQ"},
        {"IxPo", "IndexPQ"},
        {"IPfs", "IndexPQFastScan"},
        {"IwFl", "IndexIVFFlat"},
        {"IwFd", "IndexIVFFlatDedup"},
        {"IwPQ", "IndexIVFPQ"},
        {"IvPQ", "IndexIVFPQ"},
        {"IwQR", "IndexIVFPQR"},
        {"IvQR", "IndexIVFPQR"},
        {"IwPf", "IndexIVFPQFastScan"},
        {"IxSQ", "IndexScalarQuantizer"},
        {"IwSq", "IndexIVFScalarQuantizer"},
        {"IwSQ", "IndexIVFScalarQuantizer"},
        {"IHNf", "IndexHNSWFlat"},
        {"IHNp", "IndexHNSWPQ"},
        {"IHNs", "IndexHNSWSQ"},
        {"INSf", "IndexNSGFlat"},
        {"IxMp", "IndexIDMap"},
        {"IxM2", "IndexIDMap2"},
        {"IxPT", "IndexPreTransform"},
        {"IxRF", "IndexRefine"},
        {"IxRP", "IndexRefineFlat"},
        {"Imiq", "MultiIndexQuantizer"},
};

} // namespace

const char* faiss_class_name(std::string_view code) {
    for (const auto& known : kClasses) {
        if (known.code == code) {
            return known.name;
        }
    }
    return nullptr;
}

} // namespace faiss_ext
