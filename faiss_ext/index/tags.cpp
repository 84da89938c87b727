#include <faiss_ext/index/tags.h>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/removal.h>

namespace faiss_ext {

using faiss::lo_listno;
using faiss::lo_offset;

void check_may_have_tags(const IndexIVFScaNN& index, const int64_t* tags) {
    FAISS_THROW_IF_NOT_MSG(
            tags == nullptr || index.options.with_tags,
            "tags for rows of an index without them (allowed: with the option "
            "tags=1)");
}

int64_t tag_at(const IndexState& state, uint64_t place) {
    return state.lists->list(lo_listno(place)).tags[lo_offset(place)];
}

std::vector<int64_t> tags_at(
        const IndexState& state,
        const std::vector<uint64_t>& places) {
    std::vector<int64_t> tags;
    for (size_t i = 0; i < places.size() && state.options.with_tags; i++) {
        tags.push_back(tag_at(state, places[i]));
    }
    return tags;
}

void IndexIVFScaNN::set_tags(idx_t n, const idx_t* ids, const int64_t* tags) {
    check_may_have_tags(*this, tags);
    const std::vector<uint64_t> places = places_of(*this, size_t(n), ids);
    for (uint64_t place : places) {
        state_->lists->make_writable(lo_listno(place));
    }
    for (size_t i = 0; i < places.size(); i++) {
        state_->lists->set_tag(
                lo_listno(places[i]), lo_offset(places[i]), tags[i]);
    }
}

void IndexIVFScaNN::get_tags(idx_t n, const idx_t* ids, int64_t* tags) const {
    check_may_have_tags(*this, tags);
    const std::vector<uint64_t> places = places_of(*this, size_t(n), ids);
    for (size_t i = 0; i < places.size(); i++) {
        tags[i] = tag_at(*state_, places[i]);
    }
}

} // namespace faiss_ext
