#include <faiss_ext/index/calibration_queries.h>

#include <algorithm>
#include <numeric>
#include <random>

#include <faiss/invlists/DirectMap.h>

#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

CalibrationQueries draw_queries(const IndexIVFScaNN& index, size_t count) {
    const ScaNNLists& lists = *index.state().lists;
    const size_t nlist = lists.nlist;
    const size_t d = size_t(index.d);
    std::vector<size_t> ends(nlist);
    for (size_t l = 0; l < nlist; l++) {
        ends[l] = (l == 0 ? 0 : ends[l - 1]) + lists.list_size(l);
    }
    std::vector<size_t> chosen(ends.back());
    std::iota(chosen.begin(), chosen.end(), 0);
    std::mt19937_64 random(index.options.seed);
    count = std::min(count, chosen.size());
    CalibrationQueries drawn;
    for (size_t i = 0; i < count; i++) {
        std::swap(chosen[i], chosen[i + random() % (chosen.size() - i)]);
        size_t list = std::upper_bound(ends.begin(), ends.end(), chosen[i]) -
                      ends.begin();
        size_t offset = chosen[i] - (list == 0 ? 0 : ends[list - 1]);
        drawn.x.resize(drawn.x.size() + d);
        index.reconstruct_from_offset(list, offset, drawn.x.data() + i * d);
        drawn.ids.push_back(lists.get_single_id(list, offset));
        drawn.places.push_back(faiss::lo_build(list, offset));
    }
    return drawn;
}

} // namespace faiss_ext
