#include <faiss_ext/wrappers/map_parameters.h>

#include <typeinfo>

#include <faiss/IndexIVF.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/scann_options.h>

namespace faiss_ext {

namespace {

template <class Parameters>
bool copy_if(
        const faiss::SearchParameters& from,
        std::unique_ptr<faiss::SearchParameters>& to) {
    if (typeid(from) != typeid(Parameters)) {
        return false;
    }
    to = std::make_unique<Parameters>(static_cast<const Parameters&>(from));
    return true;
}

} // namespace

InnerParameters::InnerParameters(
        const faiss::IndexIDMap& map,
        const faiss::SearchParameters* outer)
        : get_(outer) {
    if (outer == nullptr || outer->sel == nullptr) {
        return;
    }
    FAISS_THROW_IF_NOT_FMT(
            copy_if<SearchParametersScaNN>(*outer, copy_) ||
                    copy_if<faiss::SearchParametersIVF>(*outer, copy_) ||
                    copy_if<faiss::SearchParameters>(*outer, copy_),
            "a selector in parameters of class %s, below an IndexIDMap "
            "(allowed: SearchParameters, SearchParametersIVF, "
            "SearchParametersScaNN)",
            typeid(*outer).name());
    selector_.emplace(map.id_map, *outer->sel);
    copy_->sel = &*selector_;
    get_ = copy_.get();
}

void to_outer_ids(const faiss::IndexIDMap& map, size_t n, int64_t* labels) {
    // a damaged file that is mapped may hold any id: never read beyond the map
    const size_t size = map.id_map.size();
    for (size_t i = 0; i < n; i++) {
        const bool known = uint64_t(labels[i]) < size;
        labels[i] = known ? map.id_map[size_t(labels[i])] : -1;
    }
}

} // namespace faiss_ext
