#include <faiss_ext/io/profile_section.h>

#include <algorithm>
#include <cmath>

#include <faiss_ext/io/section_fields.h>

namespace faiss_ext {

namespace {

template <class T>
void put_values(SectionSink& sink, const std::vector<T>& values) {
    sink.put(values.data(), values.size() * sizeof(T));
}

/// Each at least 1, and larger than the one before.
bool rises(const std::vector<uint32_t>& values) {
    return !values.empty() && values[0] >= 1 &&
           std::adjacent_find(values.begin(), values.end(), [](auto a, auto b) {
               return a >= b;
           }) == values.end();
}

bool are_shares(const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), is_share);
}

bool are_targets(const std::vector<float>& values) {
    return !values.empty() && are_shares(values) && values.back() < 1 &&
           std::adjacent_find(values.begin(), values.end(), [](auto a, auto b) {
               return a >= b;
           }) == values.end();
}

} // namespace

void put_profile(SectionSink& sink, const ScaNNProfile& profile) {
    sink.put_value(uint64_t(profile.rows));
    if (profile.rows == 0) {
        return;
    }
    const size_t ks = profile.ks.size();
    for (size_t n :
         {ks,
          profile.targets.size(),
          profile.probes.size(),
          profile.candidates.size(),
          profile.scan_recall.size() / ks,
          profile.refine_recall.size() / ks}) {
        sink.put_value(uint32_t(n));
    }
    put_values(sink, profile.ks);
    put_values(sink, profile.targets);
    put_values(sink, profile.settings);
    put_values(sink, profile.probes);
    put_values(sink, profile.probe_recall);
    put_values(sink, profile.candidates);
    put_values(sink, profile.scan_recall);
    put_values(sink, profile.refine_recall);
    sink.put_value(profile.lowest_score);
    sink.put_value(profile.highest_score);
}

ScaNNProfile get_profile(ByteReader reader, uint64_t nlist) {
    ScaNNProfile p;
    uint64_t rows;
    reader.get_value(rows);
    if (rows == 0) {
        reader.finish();
        return p;
    }
    p.rows = size_t(rows);
    uint32_t sizes[6];
    for (uint32_t& size : sizes) {
        reader.get_value(size);
    }
    const auto [ks, targets, probes, candidates, scanned, refined] = sizes;
    reader.check(
            (scanned == 0 || scanned == candidates) &&
                    (refined == 0 || refined == candidates),
            "a table of the profile has the wrong width");
    p.ks = reader.get_vector<uint32_t>(ks);
    p.targets = reader.get_vector<float>(targets);
    p.settings =
            reader.get_vector<ScaNNProfile::Setting>(uint64_t(ks) * targets);
    p.probes = reader.get_vector<uint32_t>(probes);
    p.probe_recall = reader.get_vector<float>(uint64_t(ks) * probes);
    p.candidates = reader.get_vector<uint32_t>(candidates);
    p.scan_recall = reader.get_vector<float>(uint64_t(ks) * scanned);
    p.refine_recall = reader.get_vector<float>(uint64_t(ks) * refined);
    reader.get_value(p.lowest_score);
    reader.get_value(p.highest_score);
    reader.finish();
    reader.check(rises(p.ks), "numbers of results of the profile do not rise");
    reader.check(are_targets(p.targets), "targets of the profile do not rise");
    reader.check(
            rises(p.probes) && p.probes.back() == nlist,
            "numbers of lists of the profile do not rise to nlist");
    reader.check(
            candidates == 0 || rises(p.candidates),
            "numbers of candidates of the profile do not rise");
    for (const auto& setting : p.settings) {
        reader.check(
                setting.nprobe >= 1 && setting.nprobe <= nlist,
                "a number of lists of the profile is out of range");
    }
    reader.check(
            are_shares(p.probe_recall) && are_shares(p.scan_recall) &&
                    are_shares(p.refine_recall),
            "a recall of the profile is not between 0 and 1");
    reader.check(
            std::isfinite(p.lowest_score) && std::isfinite(p.highest_score),
            "a score of the profile is not finite");
    return p;
}

} // namespace faiss_ext
