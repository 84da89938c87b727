#include <faiss_ext/index_factory.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include <faiss/IndexIVF.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/index_factory.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/wrappers/clone.h>
#include <faiss_ext/wrappers/factory_parts.h>
#include <faiss_ext/wrappers/faiss_parts.h>
#include <faiss_ext/wrappers/faiss_training.h>

namespace faiss_ext {

namespace {

constexpr char kTrailing[] =
        "SQ8, SQfp16, SQbf16, RFlat, RFP16, RBF16, RI8, RU8, IDMap, IDMap2";

std::optional<RowType> raw_type_of(const std::string& text) {
    if (text == "RFlat") {
        return RowType::Float32;
    }
    if (text == "RFP16") {
        return RowType::FP16;
    }
    if (text == "RBF16") {
        return RowType::BF16;
    }
    if (text == "RI8") {
        return RowType::Int8;
    }
    if (text == "RU8") {
        return RowType::UInt8;
    }
    return std::nullopt;
}

std::string lower(std::string text) {
    for (char& c : text) {
        c = char(std::tolower(static_cast<unsigned char>(c)));
    }
    return text;
}

bool starts_with(const std::string& text, const std::string& prefix) {
    return text.compare(0, prefix.size(), prefix) == 0;
}

bool names_scann(const FactoryPart& token) {
    return starts_with(lower(token.text), "scann");
}

class Parser {
 public:
    Parser(const std::string& description, faiss::MetricType metric)
            : description_(description), metric_(metric) {}

    std::unique_ptr<faiss::Index> build(int d);

 private:
    [[noreturn]] void fail(size_t position, const std::string& message) const {
        fail_factory(description_, position, message);
    }

    void parse_scann(const FactoryPart& token);
    void parse_option(const FactoryPart& option);
    void check_given_once(const FactoryPart& option, const std::string& name)
            const;
    float eta(const FactoryPart& value) const;
    EtaFormula eta_formula(const FactoryPart& value) const;
    RotationKind rotation(const FactoryPart& value) const;
    bool inner_product_flag(
            const FactoryPart& option,
            const std::string& name,
            const FactoryPart& value) const;
    void parse_trailing(const FactoryPart& token);
    void choose_storage(size_t d);
    void set_codes(size_t d);
    std::unique_ptr<faiss::Index> build_around(int d);

    /// whether the option was given
    bool seen(const char* option) const {
        return std::count(options_seen_.begin(), options_seen_.end(), option) >
               0;
    }
    template <class T>
    T number(const FactoryPart& value, T low, T high, const char* allowed)
            const {
        T number{};
        const char* end = value.text.data() + value.text.size();
        auto [stop, error] = std::from_chars(value.text.data(), end, number);
        if (error != std::errc() || stop != end ||
            !(number >= low && number <= high)) {
            fail(value.position,
                 quoted(value.text) + " (allowed: " + allowed + ")");
        }
        return number;
    }
    float real(const FactoryPart& value, float low, const char* allowed) const {
        constexpr float kMax = std::numeric_limits<float>::max();
        return number<float>(value, low, kMax, allowed);
    }
    bool flag(const FactoryPart& value) const {
        return number<unsigned>(value, 0, 1, "0, 1") != 0;
    }

    const std::string& description_;
    faiss::MetricType metric_;
    std::vector<FactoryPart> before_; ///< what Faiss builds
    std::vector<FactoryPart> after_;  ///< IDMap as a suffix
    bool lists_given_ = true;
    bool chosen_nlist_ = false;
    size_t nlist_ = 0; ///< 0: chosen in training
    std::vector<std::string> options_seen_;
    FactoryPart scann_;
    ScaNNOptions options_wanted_;
    size_t M_ = 0; ///< number of codes if it was given, and where
    size_t M_position_ = 0;
    size_t most_bytes_ = 0; ///< bytes_per_vector
};

/// Throws if the option was given before, or excludes one that was.
void Parser::check_given_once(
        const FactoryPart& option,
        const std::string& name) const {
    if (seen(name.c_str())) {
        fail(option.position, quoted(name) + " is given twice");
    }
    if ((name == "eta" && seen("threshold")) ||
        (name == "threshold" && seen("eta"))) {
        fail(option.position, "eta and threshold exclude each other");
    }
    if (name == "sub_dim" && M_ > 0) {
        fail(option.position,
             "sub_dim and the number of codes exclude each other");
    }
}

float Parser::eta(const FactoryPart& value) const {
    constexpr char allowed[] = ">= 1, or 0 for the default";
    const float eta = real(value, 0, allowed);
    return eta == 0 ? eta : real(value, 1, allowed);
}

EtaFormula Parser::eta_formula(const FactoryPart& value) const {
    if (value.text != "exact" && value.text != "limit") {
        fail(value.position, quoted(value.text) + " (allowed: exact, limit)");
    }
    return value.text == "exact" ? EtaFormula::Exact : EtaFormula::Limit;
}

RotationKind Parser::rotation(const FactoryPart& value) const {
    static const std::vector<std::string> kinds = {
            "none", "pca", "balanced", "random"};
    auto found = std::find(kinds.begin(), kinds.end(), value.text);
    if (found == kinds.end()) {
        fail(value.position,
             quoted(value.text) + " (allowed: none, pca, balanced, random)");
    }
    return RotationKind(found - kinds.begin());
}

/// 0 or 1, the latter for inner product alone.
bool Parser::inner_product_flag(
        const FactoryPart& option,
        const std::string& name,
        const FactoryPart& value) const {
    const bool on = flag(value);
    if (on && metric_ != faiss::METRIC_INNER_PRODUCT) {
        fail(option.position, name + "=1 needs METRIC_INNER_PRODUCT, not L2");
    }
    return on;
}

void Parser::parse_option(const FactoryPart& option) {
    size_t equals = option.text.find('=');
    if (equals == std::string::npos) {
        fail(option.position,
             quoted(option.text) + " (allowed: <option>=<value>)");
    }
    std::string name = option.text.substr(0, equals);
    FactoryPart value = option.part(equals + 1);
    check_given_once(option, name);
    ScaNNOptions& o = options_wanted_;
    if (name == "sub_dim") {
        o.sub_dim = number<size_t>(value, 1, 8, "1..8");
    } else if (name == "coded_dims") {
        o.coded_dims = number<size_t>(value, 0, 65536, "0..d");
    } else if (name == "eta") {
        o.eta = eta(value);
    } else if (name == "threshold") {
        o.threshold = real(
                value, std::numeric_limits<float>::lowest(), "finite numbers");
    } else if (name == "eta_formula") {
        o.eta_formula = eta_formula(value);
    } else if (name == "soar_lambda") {
        o.soar_lambda = real(value, 0, ">= 0");
    } else if (name == "tags") {
        o.with_tags = flag(value);
    } else if (name == "auto_maintain") {
        o.auto_maintain = real(value, 0, ">= 0");
    } else if (name == "rotation") {
        o.rotation = rotation(value);
    } else if (name == "allow_zero") {
        o.allow_zero = flag(value);
    } else if (name == "normalize") {
        o.normalize = inner_product_flag(option, name, value);
    } else if (name == "score_aware_centroids") {
        o.score_aware_centroids = inner_product_flag(option, name, value);
    } else if (name == "seed") {
        o.seed = number<uint64_t>(value, 0, UINT64_MAX, "0..2^64-1");
    } else if (name == "bytes_per_vector") {
        most_bytes_ = number<size_t>(value, 1, size_t(1) << 32, "1..2^32");
    } else {
        fail(option.position,
             "unknown option " + quoted(name) +
                     " (known: sub_dim, coded_dims, eta, threshold, "
                     "eta_formula, soar_lambda, tags, auto_maintain, "
                     "rotation, normalize, allow_zero, score_aware_centroids, "
                     "seed, "
                     "bytes_per_vector)");
    }
    options_seen_.push_back(name);
}

void Parser::parse_scann(const FactoryPart& token) {
    constexpr size_t kLength = 5;
    std::string spelling = token.text.substr(0, kLength);
    if (spelling != "ScaNN" && spelling != "SCANN") {
        fail(token.position,
             "unknown " + quoted(spelling) + " (meant: ScaNN?)");
    }
    size_t at = kLength;
    size_t digits = token.text.find_first_not_of("0123456789", at);
    digits = std::min(digits, token.text.size()) - at;
    if (digits > 0) {
        constexpr char allowed[] = "1..65536 codes";
        M_ = number<size_t>(token.part(at, digits), 1, 65536, allowed);
        M_position_ = token.position + at;
        at += digits;
        if (token.text.compare(at, 2, "x4") != 0) {
            fail(token.position + at, "codes have 4 bits (allowed: x4)");
        }
        at += 2;
    }
    if (at == token.text.size()) {
        return;
    }
    size_t last = token.text.size() - 1;
    if (token.text[at] != '(') {
        fail(token.position + at,
             quoted(token.text.substr(at)) +
                     " (allowed: <M>x4, \"(\" or \",\")");
    }
    size_t closing = token.text.find(')', at);
    if (closing != last) {
        fail(token.position + closing + 1, "a part ends here (allowed: \",\")");
    }
    FactoryPart inside = token.part(at + 1, last - at - 1);
    for (const FactoryPart& option : split_factory(description_, inside)) {
        parse_option(option);
    }
}

void Parser::parse_trailing(const FactoryPart& token) {
    const std::string& text = token.text;
    ScaNNOptions& o = options_wanted_;
    if (text == "IDMap" || text == "IDMap2") {
        after_.push_back(token);
        return;
    }
    if (!after_.empty()) {
        fail(token.position,
             quoted(text) + " after " + quoted(after_.back().text));
    }
    if (const auto type = raw_type_of(text)) {
        if (o.with_raw_data) {
            fail(token.position, "a second kind of raw rows, " + quoted(text));
        }
        o.with_raw_data = true;
        o.raw_type = *type;
        return;
    }
    RefineType type = text == "SQ8"      ? RefineType::Int8
                      : text == "SQfp16" ? RefineType::FP16
                      : text == "SQbf16" ? RefineType::BF16
                                         : RefineType::None;
    if (type == RefineType::None) {
        fail(token.position,
             "unknown " + quoted(text) + " after ScaNN (known: " + kTrailing +
                     ")");
    }
    if (o.refine_type != RefineType::None) {
        fail(token.position, "a second kind of refine codes, " + quoted(text));
    }
    o.refine_type = type;
}

void Parser::choose_storage(size_t d) {
    const ScaNNOptions& o = options_wanted_;
    bool given = lists_given_ || M_ > 0 || seen("sub_dim") ||
                 seen("coded_dims") || seen("soar_lambda") || o.with_raw_data ||
                 o.refine_type != RefineType::None;
    if (!given) {
        try {
            options_wanted_ = default_storage(d, most_bytes_, o);
        } catch (const faiss::FaissException& error) {
            fail(scann_.position, error.what());
        }
    } else if (most_bytes_ > 0) {
        fail(scann_.position,
             "bytes_per_vector chooses lists, codes and storage: none of them "
             "can be given");
    }
}

void Parser::set_codes(size_t d) {
    if (M_ == 0) {
        return;
    }
    if (options_wanted_.coded_dims > 0) {
        d = std::min(d, options_wanted_.coded_dims); // more: refused later
    }
    size_t M = M_;
    size_t sub_dim = (d + M - 1) / M;
    if (M > d || sub_dim > 8) {
        fail(M_position_,
             std::to_string(M) + " codes for " + std::to_string(d) +
                     " dimensions (possible: " + std::to_string((d + 7) / 8) +
                     ".." + std::to_string(d) + ")");
    }
    if ((d + sub_dim - 1) / sub_dim != M) {
        options_wanted_.M = M; // blocks of two widths
        return;
    }
    options_wanted_.sub_dim = sub_dim;
}

/// Faiss builds everything around a placeholder, of one list.
std::unique_ptr<faiss::Index> Parser::build_around(int d) {
    FactoryLists lists = check_parts_before(description_, before_, d, metric_);
    nlist_ = chosen_nlist_ ? 0 : lists.nlist;
    std::string placeholder;
    for (size_t i = 0; i + 1 < before_.size(); i++) {
        placeholder += before_[i].text + ",";
    }
    placeholder += lists.with_one + ",Flat";
    for (const FactoryPart& part : after_) {
        placeholder += "," + part.text;
    }
    try {
        return std::unique_ptr<faiss::Index>(
                faiss::index_factory(d, placeholder.c_str(), metric_));
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception& error) {
        fail(scann_.position,
             "Faiss cannot build " + quoted(placeholder) + ": " + error.what());
    }
}

std::unique_ptr<faiss::Index> Parser::build(int d) {
    std::vector<FactoryPart> tokens =
            split_factory(description_, {description_, 0});
    auto found = std::find_if(tokens.begin(), tokens.end(), names_scann);
    if (found == tokens.end()) {
        fail(lower(description_).find("scann"),
             "ScaNN inside parentheses or a word (it stands alone, after "
             "IVF<nlist>)");
    }
    scann_ = *found;
    before_.assign(tokens.begin(), found);
    parse_scann(scann_);
    for (auto token = found + 1; token != tokens.end(); ++token) {
        parse_trailing(*token);
    }
    if (before_.empty() || !starts_with(before_.back().text, "IVF")) {
        lists_given_ = false;
        chosen_nlist_ = true;
        before_.push_back({"IVF1", scann_.position});
    } else if (before_.back().text == "IVF") {
        chosen_nlist_ = true;
        before_.back().text = "IVF1";
    }
    std::unique_ptr<faiss::Index> root = build_around(d);
    auto leaf = dynamic_cast<faiss::IndexIVF*>(leaf_index(root.get()));
    if (leaf == nullptr) {
        fail(scann_.position, "ScaNN cannot stand behind what precedes it");
    }
    choose_storage(leaf->d);
    set_codes(leaf->d);
    auto index = std::make_unique<IndexIVFScaNN>(
            leaf->quantizer, leaf->d, nlist_, metric_, options_wanted_);
    index->own_fields = leaf->own_fields;
    leaf->own_fields = false;
    index->quantizer_trains_alone = leaf->quantizer_trains_alone;
    index->cp = leaf->cp;
    replace_leaf(root, std::move(index));
    return root;
}

} // namespace

faiss::Index*
index_factory(int d, const std::string& description, faiss::MetricType metric) {
    check_factory_string(description);
    if (metric != faiss::METRIC_L2 && metric != faiss::METRIC_INNER_PRODUCT) {
        fail_factory(
                description,
                0,
                "metric " + std::to_string(int(metric)) +
                        " (allowed: METRIC_L2, METRIC_INNER_PRODUCT)");
    }
    if (d < 1 || d > 65536) {
        fail_factory(
                description,
                0,
                "d = " + std::to_string(d) + " (allowed: 1..65536)");
    }
    std::unique_ptr<faiss::Index> made;
    if (lower(description).find("scann") == std::string::npos) {
        check_faiss_description(description, d, metric);
        made.reset(faiss::index_factory(d, description.c_str(), metric));
    } else {
        made = Parser(description, metric).build(d);
    }
    make_silent(made);
    return made.release();
}

IndexIVFScaNN* find_scann(faiss::Index* index) {
    return dynamic_cast<IndexIVFScaNN*>(leaf_index(index));
}

const IndexIVFScaNN* find_scann(const faiss::Index* index) {
    return dynamic_cast<const IndexIVFScaNN*>(leaf_index(index));
}

} // namespace faiss_ext
