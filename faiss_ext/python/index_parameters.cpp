/* Index.set_index_parameters(): defaults of searches from a text. */

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "array_arguments.h"
#include "bindings.h"

namespace faiss_ext::python {

namespace {

/// A default of searches that set_index_parameters() sets.
struct SearchDefault {
    const char* name;
    size_t* place;
    int64_t minimum;
    int64_t maximum;
    std::optional<size_t> value = {}; ///< what the caller gives
};

std::vector<SearchDefault> search_defaults(IndexHandle& self) {
    faiss::IndexIVF& ivf = need_ivf(self, "set_index_parameters");
    constexpr int64_t kMax = INT64_MAX;
    const int64_t nlist = ivf.nlist > 0 ? int64_t(ivf.nlist) : kMax;
    std::vector<SearchDefault> known = {
            {"nprobe", &ivf.nprobe, 1, nlist},
            {"max_codes", &ivf.max_codes, 0, kMax}};
    if (IndexIVFScaNN* scann = self.scann()) {
        known.push_back({"reorder_k", &scann->reorder_k, 0, kMax});
        known.push_back({"refine_k", &scann->refine_k, 0, kMax});
    }
    return known;
}

/// Reads "nprobe=16" into the default of that name.
void read_search_default(
        const std::string& part,
        const std::string& description,
        std::vector<SearchDefault>& known) {
    const size_t equals = std::min(part.find('='), part.size());
    auto found = std::find_if(known.begin(), known.end(), [&](auto& one) {
        return part.compare(0, equals, one.name) == 0;
    });
    if (found == known.end() || equals == part.size()) {
        std::string names;
        for (const SearchDefault& one : known) {
            names += (names.empty() ? "" : ", ") + std::string(one.name);
        }
        throw py::value_error(
                "\"" + part + "\" in \"" + description +
                "\" (allowed: <name>=<value>,.. with " + names + ")");
    }
    if (found->value) {
        throw py::value_error(
                std::string(found->name) + " is given twice in \"" +
                description + "\" (allowed: once)");
    }
    int64_t value = 0;
    const char* last = part.data() + part.size();
    auto [stop, error] = std::from_chars(part.data() + equals + 1, last, value);
    if (error != std::errc() || stop != last) {
        throw py::value_error(
                "\"" + part + "\" (allowed: an integer after " + found->name +
                "=)");
    }
    found->value =
            checked_integer(found->name, value, found->minimum, found->maximum);
}

} // namespace

void set_index_parameters(IndexHandle& self, const std::string& description) {
    std::vector<SearchDefault> known = search_defaults(self);
    size_t begin = 0;
    while (begin <= description.size()) {
        size_t end = std::min(description.find(',', begin), description.size());
        read_search_default(
                description.substr(begin, end - begin), description, known);
        begin = end + 1;
    }
    self.set([&] {
        for (const SearchDefault& one : known) {
            if (one.value) {
                *one.place = *one.value;
            }
        }
    });
}

} // namespace faiss_ext::python
