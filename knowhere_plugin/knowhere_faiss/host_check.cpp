#include <knowhere_plugin/knowhere_faiss/host_check.h>

#include <cstddef>
#include <cstring>
#include <memory>

#include <faiss/IndexIVF.h>
#include <faiss/index_factory.h>

#include <knowhere_plugin/preload/symbol_size.h>

namespace knowhere_plugin::knowhere_faiss {

namespace {

template <class Base>
struct Extended : Base {
    virtual void after_last();
};

/// Bytes of a table of virtual functions of one base: two words, then one for
/// each function. A pointer to the function after the last one holds its place.
template <class Base>
size_t table_size() {
    auto pointer = &Extended<Base>::after_last;
    ptrdiff_t place = 0;
    std::memcpy(&place, &pointer, sizeof(place));
#if defined(__aarch64__)
    const ptrdiff_t in_table = place;
#else
    const ptrdiff_t in_table = place - 1; // odd: a virtual function
#endif
    return 2 * sizeof(void*) + size_t(in_table);
}

std::string table_mismatch() {
    struct Table {
        const char* what;
        const char* symbol;
        size_t size;
    };
    const Table tables[] = {
            {"Index", "_ZTVN5faiss5IndexE", table_size<faiss::Index>()},
            {"IndexIVF",
             "_ZTVN5faiss8IndexIVFE",
             table_size<faiss::IndexIVF>() +
                     table_size<faiss::IndexIVFInterface>()},
            {"InvertedLists",
             "_ZTVN5faiss13InvertedListsE",
             table_size<faiss::InvertedLists>()}};
    for (const Table& table : tables) {
        const size_t found = symbol_size(table.symbol);
        if (found != table.size) {
            return std::string("the virtual functions of faiss::") +
                   table.what + " take " + std::to_string(found) +
                   " bytes (known: " + std::to_string(table.size) + ")";
        }
    }
    return {};
}

/// Looks at the members of an index that the host has made.
std::string layout_mismatch() {
    constexpr int kDim = 3;
    std::unique_ptr<faiss::Index> made(faiss::index_factory(
            kDim, "IVF2,Flat", faiss::METRIC_INNER_PRODUCT));
    auto ivf = dynamic_cast<const faiss::IndexIVF*>(made.get());
    const char* member =
            ivf == nullptr                                    ? "the class"
            : ivf->PARALLEL_MODE_NO_HEAP_INIT != 1024         ? "parallel_mode"
            : ivf->d != kDim || ivf->ntotal != 0              ? "d or ntotal"
            : ivf->metric_type != faiss::METRIC_INNER_PRODUCT ? "metric_type"
            : ivf->nlist != 2 || ivf->nprobe != 1            ? "nlist or nprobe"
            : ivf->max_codes != 0 || !ivf->own_fields        ? "max_codes"
            : ivf->cp.max_points_per_centroid != 256         ? "cp"
            : ivf->code_size != kDim * sizeof(float)         ? "code_size"
            : !ivf->own_invlists || ivf->invlists == nullptr ? "invlists"
            : !ivf->direct_map.no()                          ? "direct_map"
            : ivf->invlists->nlist != 2 ||
                            ivf->invlists->code_size != ivf->code_size
                    ? "the sizes of invlists"
            : ivf->quantizer == nullptr || ivf->quantizer->d != kDim
                    ? "quantizer"
                    : nullptr;
    if (member == nullptr) {
        return {};
    }
    (void)made.release(); // of an unknown class
    return std::string("faiss::IndexIVF has other members: ") + member;
}

} // namespace

std::string host_mismatch() {
    std::string difference = table_mismatch();
    if (difference.empty()) {
        difference = layout_mismatch();
    }
    return difference.empty() ? difference
                              : difference +
                                        "; this is not the Faiss of the "
                                        "Knowhere it was compiled with";
}

} // namespace knowhere_plugin::knowhere_faiss
