#include <knowhere_plugin/scann_parameters.h>

#include <algorithm>
#include <cmath>

#include <faiss_ext/model/defaults.h>

#include <knowhere_plugin/guard.h>

namespace knowhere_plugin {

namespace {

/// Knowhere's default: the lists that a search of many rows visits.
constexpr int64_t kDefaultProbes = 8;
/// Dimensions per code, without spilled copies.
constexpr size_t kSubDim = 2;

faiss_ext::RefineType refine_type(const std::string& word) {
    return word == "int8"   ? faiss_ext::RefineType::Int8
           : word == "fp16" ? faiss_ext::RefineType::FP16
           : word == "bf16" ? faiss_ext::RefineType::BF16
                            : faiss_ext::RefineType::None;
}

size_t default_probes(const ScaNNFacts& facts) {
    double average = double(faiss_ext::default_nprobe(facts.nlist));
    // limited, since a file may hold any number
    double probes = double(std::min(facts.nprobe, facts.nlist));
    double more = std::max(1.0, probes / average);
    return size_t(std::ceil(kDefaultProbes * more));
}

} // namespace

const std::vector<Parameter>& scann_schema() {
    static const std::vector<Parameter> schema = with_common({
            integer_parameter(
                    "nlist",
                    "128",
                    1,
                    65536,
                    kBuild,
                    "lists; lowered so that each has 39 rows"),
            integer_parameter(
                    "sub_dim",
                    "",
                    1,
                    8,
                    kBuild,
                    "dimensions per 4-bit code; default 2, and 4 where "
                    "soar_lambda is chosen"),
            bool_parameter(
                    "with_raw_data",
                    "true",
                    kBuild,
                    "keep raw rows: exact distances, GetVectorByIds"),
            real_parameter(
                    "eta",
                    "",
                    1,
                    kNoLimit,
                    kBuild,
                    "weight of the parallel error; default: the engine's"),
            real_parameter(
                    "anisotropic_threshold",
                    "",
                    -kNoLimit,
                    kNoLimit,
                    kBuild,
                    "T of the paper; instead of eta"),
            real_parameter(
                    "soar_lambda",
                    "",
                    0,
                    kNoLimit,
                    kBuild,
                    "> 0: each row also gets a code in a second list; default "
                    "1 for raw rows of 128 dimensions and more, else 0"),
            word_parameter(
                    "refine_type",
                    "none",
                    "none|int8|fp16|bf16",
                    kBuild,
                    "codes that rescore candidates before raw rows do"),
            real_parameter(
                    "target_recall",
                    "",
                    0.5,
                    0.999,
                    kBuild | kSearch,
                    "of a build: recall@10 for which nprobe and reorder_k are "
                    "chosen where a search gives none; of a search: recall@k  "
                    "for which they are chosen, for k up to "
                    "1000, of an index built with any; needs "
                    "with_raw_data"),
            integer_parameter(
                    "nprobe",
                    "",
                    1,
                    65536,
                    kSearch | kRange,
                    "lists visited, all if there are fewer; default: as "
                    "chosen for target_recall, else 8 or more, up to all of "
                    "few rows; of a range search: all that may hold hits"),
            integer_parameter(
                    "reorder_k",
                    "",
                    1,
                    2147483647,
                    kSearch,
                    "candidates rescored, at least k; default: from k"),
            bool_parameter(
                    "ensure_topk_full",
                    "false",
                    kSearch,
                    "visit further lists for queries that got less than k"),
    });
    return schema;
}

void check_scann_build(const Parameters& parameters) {
    if (parameters.given("target_recall") &&
        !parameters.flag("with_raw_data")) {
        throw Fault(
                StatusCode::invalid_args,
                "target_recall = " + shown(parameters.real("target_recall")) +
                        " with with_raw_data = false (allowed: true; recall is "
                        "measured against raw rows)");
    }
    if (parameters.given("anisotropic_threshold") && parameters.given("eta")) {
        throw Fault(
                StatusCode::invalid_args,
                "eta = " + shown(parameters.real("eta")) +
                        " and anisotropic_threshold = " +
                        shown(parameters.real("anisotropic_threshold")) +
                        " (allowed: one of them)");
    }
}

/// A target of a search chooses what the others say.
static void check_target(const Parameters& parameters, int64_t k) {
    const std::string given =
            "target_recall = " + shown(parameters.real("target_recall"));
    if (k > faiss_ext::ScaNNProfile::kMaxResults) {
        throw Fault(
                StatusCode::out_of_range_in_json,
                given + " with k = " + std::to_string(k) +
                        " (allowed: k of 1..1000)");
    }
    for (const char* other : {"nprobe", "reorder_k"}) {
        if (parameters.given(other)) {
            throw Fault(
                    StatusCode::invalid_args,
                    given + " and " + other + " = " +
                            std::to_string(parameters.integer(other)) +
                            " (allowed: one of them)");
        }
    }
}

void check_scann_search(const Parameters& parameters, int64_t k) {
    if (parameters.given("target_recall")) {
        check_target(parameters, k);
    }
    if (parameters.given("reorder_k") && parameters.integer("reorder_k") < k) {
        throw Fault(
                StatusCode::out_of_range_in_json,
                "reorder_k = " +
                        std::to_string(parameters.integer("reorder_k")) +
                        " is below k = " + std::to_string(k) +
                        " (allowed: >= k)");
    }
}

faiss_ext::ScaNNOptions scann_options(
        int64_t n,
        int64_t d,
        Metric metric,
        const Parameters& parameters) {
    faiss_ext::ScaNNOptions options;
    options.with_raw_data = parameters.flag("with_raw_data") || n <= kExactRows;
    const bool copies = parameters.flag("with_raw_data") && n > kExactRows &&
                        size_t(d) >= faiss_ext::kManyDimensions;
    const bool lambda_given = parameters.given("soar_lambda");
    options.soar_lambda = lambda_given ? float(parameters.real("soar_lambda"))
                                       : float(copies);
    options.sub_dim =
            parameters.given("sub_dim") ? size_t(parameters.integer("sub_dim"))
            : copies && !lambda_given ? faiss_ext::sub_dim_of_copies(size_t(d))
                                      : kSubDim;
    if (!parameters.given("sub_dim") && !options.with_raw_data) {
        options.M = faiss_ext::whole_groups(size_t(d), options.sub_dim);
    }
    options.refine_type = refine_type(parameters.word("refine_type"));
    options.normalize = options.allow_zero = metric == Metric::COSINE;
    if (parameters.given("eta")) {
        options.eta = float(parameters.real("eta"));
    }
    if (parameters.given("anisotropic_threshold")) {
        options.threshold = float(parameters.real("anisotropic_threshold"));
    }
    return options;
}

faiss_ext::SearchParametersScaNN scann_search_parameters(
        const ScaNNFacts& facts,
        const Parameters& parameters,
        SearchScope scope,
        int64_t k) {
    faiss_ext::SearchParametersScaNN made;
    if (scope.complete || facts.rows <= kExactRows) {
        made.nprobe = facts.nlist;
        made.reorder_k = made.refine_k =
                size_t(std::max<int64_t>(facts.rows, k));
        return made;
    }
    if (parameters.given("target_recall") && scope.factor == 1) {
        if (!facts.profiled) {
            throw Fault(
                    StatusCode::invalid_args,
                    "target_recall = " +
                            shown(parameters.real("target_recall")) +
                            " of an index that was not calibrated (allowed: "
                            "one that was built with target_recall)");
        }
        made.target_recall = float(parameters.real("target_recall"));
        return made;
    }
    const auto defaults = faiss_ext::segment_defaults(
            size_t(facts.rows), facts.nlist, size_t(k), default_probes(facts));
    const bool nprobe_given = parameters.given("nprobe");
    const size_t lists = nprobe_given ? size_t(parameters.integer("nprobe"))
                         : facts.calibrated ? facts.nprobe
                                            : defaults.nprobe;
    made.nprobe = std::min(
            std::min(lists, facts.nlist) * size_t(scope.factor), facts.nlist);
    if (parameters.given("reorder_k")) {
        // it is the number of candidates of the last step that rescores
        (facts.with_raw_data ? made.reorder_k : made.refine_k) =
                size_t(std::max(parameters.integer("reorder_k"), k));
    } else if (facts.with_raw_data && !facts.calibrated && !nprobe_given) {
        made.reorder_k = defaults.reorder_k;
    }
    return made;
}

} // namespace knowhere_plugin
