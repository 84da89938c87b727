#include <faiss_ext/io/model_sections.h>

#include <cmath>
#include <utility>

#include <faiss_ext/io/section_fields.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>

namespace faiss_ext {

void put_rotation(SectionSink& sink, const ScaNNModel& model) {
    const std::vector<float>& matrix = model.rotation.matrix();
    sink.put_value(uint64_t(matrix.size()));
    sink.put(matrix.data(), matrix.size() * sizeof(float));
}

void get_rotation(ByteReader reader, size_t d, ScaNNModel& model) {
    uint64_t n;
    reader.get_value(n);
    reader.check(n == 0 || n == d * d, "not a matrix of d x d");
    std::vector<float> matrix = reader.get_vector<float>(n);
    reader.finish();
    // rows of length 1 cannot make a query or a row longer
    for (size_t i = 0; i < n; i += d) {
        const double square = precise_square(d, &matrix[i]);
        reader.check(
                square > 0.99 && square < 1.01, "an axis has not length 1");
    }
    model.rotation.set_matrix(d, std::move(matrix));
}

// The order of the lines of transfer_ functions is the file format.
template <class Fields, class Term>
static void transfer_term(Fields& fields, Term& term) {
    fields(term.centroid_weight);
    fields(term.residual_weight);
    fields(term.error_weight);
    float unused = 1; // before version 2: a typical length
    fields(unused);
    fields(term.minimum);
    fields(term.step);
}

void put_codebook(SectionSink& sink, const ScaNNModel& model) {
    const ScoreAwarePQ& pq = model.pq;
    sink.put_value(uint64_t(pq.M()));
    sink.put(pq.offsets().data(), pq.offsets().size() * sizeof(uint32_t));
    sink.put_value(pq.eta());
    sink.put(pq.codebook().data(), pq.codebook().size() * sizeof(float));
    FieldWriter fields{sink};
    transfer_term(fields, model.score_term);
    const std::vector<float>& spread = model.list_spread;
    sink.put(spread.data(), spread.size() * sizeof(float));
}

void get_codebook(
        ByteReader reader,
        size_t d,
        size_t M,
        size_t nlist,
        ScaNNModel& model) {
    uint64_t stored_M;
    reader.get_value(stored_M);
    reader.check(stored_M == M, "number of codes does not fit the options");
    std::vector<uint32_t> offsets = reader.get_vector<uint32_t>(M + 1);
    reader.check(offsets[0] == 0 && offsets[M] <= d, "wrong block boundaries");
    for (size_t m = 0; m < M; m++) {
        reader.check(
                offsets[m] < offsets[m + 1] && offsets[m + 1] - offsets[m] <= 8,
                "wrong block boundaries");
    }
    float eta;
    reader.get_value(eta);
    reader.check(std::isfinite(eta) && eta >= 1, "eta out of range");
    std::vector<float> codebook = reader.get_vector<float>(offsets[M] * 16);
    reader.check(
            all_finite(codebook.size(), codebook.data()),
            "a codeword has a NaN or infinite value");
    ScoreTerm& term = model.score_term;
    FieldReader fields{reader};
    transfer_term(fields, term);
    for (float value :
         {term.centroid_weight,
          term.residual_weight,
          term.error_weight,
          term.minimum}) {
        reader.check(std::isfinite(value), "a term's weight is not finite");
    }
    reader.check(
            std::isfinite(term.step) && term.step >= 0,
            "a term's scale is out of range");
    model.list_spread = reader.get_vector<float>(nlist);
    for (float spread : model.list_spread) {
        reader.check(
                std::isfinite(spread) && spread >= 0,
                "the spread of a list is out of range");
    }
    reader.finish();
    model.pq = ScoreAwarePQ(std::move(offsets));
    model.pq.set_codebook(codebook.data(), eta);
}

// The order of the lines of transfer_ functions is the file format.
template <class Fields, class Model>
static void transfer_ranges(Fields& fields, Model& model) {
    fields(model.score_term.error_limit);
    fields(model.by_direction);
    fields(model.scan_rows);
    fields(model.trial_recall);
}

void put_ranges(SectionSink& sink, const ScaNNModel& model) {
    sink.put_value(uint64_t(model.origin.size()));
    sink.put(model.origin.data(), model.origin.size() * sizeof(float));
    FieldWriter fields{sink};
    transfer_ranges(fields, model);
}

void get_ranges(ByteReader reader, size_t d, ScaNNModel& model) {
    const bool l2 = model.score_term.metric == faiss::METRIC_L2;
    uint64_t n;
    reader.get_value(n);
    reader.check(n == 0 || (l2 && n == d), "not an origin of d values");
    model.origin = reader.get_vector<float>(n);
    reader.check(
            all_finite(n, model.origin.data()), "the origin is not finite");
    FieldReader fields{reader};
    transfer_ranges(fields, model);
    reader.check(model.score_term.error_limit >= 0, "a limit is out of range");
    reader.check(is_share(model.trial_recall), "a recall is out of range");
    reader.check(
            !(l2 && model.by_direction), "lists by direction, but not for L2");
    reader.finish();
}

// The order of the lines of transfer_ functions is the file format.
template <class Fields, class Fit>
static void transfer_fit(Fields& fields, Fit& fit) {
    fields(fit.list_error);
    fields(fit.code_error);
    fields(fit.imbalance);
}

void put_fit(SectionSink& sink, const ModelFit& fit) {
    FieldWriter fields{sink};
    transfer_fit(fields, fit);
}

void get_fit(ByteReader reader, ModelFit& fit) {
    FieldReader fields{reader};
    transfer_fit(fields, fit);
    reader.finish();
    for (float value : {fit.list_error, fit.code_error, fit.imbalance}) {
        reader.check(
                std::isfinite(value) && value >= 0, "an error out of range");
    }
}

void put_groups(SectionSink& sink, const ScaNNModel& model) {
    const std::vector<uint32_t>& groups = model.list_groups;
    sink.put_value(uint64_t(groups.size()));
    sink.put(groups.data(), groups.size() * sizeof(uint32_t));
}

void get_groups(ByteReader reader, size_t nlist, ScaNNModel& model) {
    uint64_t n;
    reader.get_value(n);
    reader.check(n == 0 || n == nlist, "not a group of each list");
    model.list_groups = reader.get_vector<uint32_t>(n);
    reader.finish();
    for (uint32_t group : model.list_groups) {
        reader.check(group < nlist, "a group out of range");
    }
}

} // namespace faiss_ext
