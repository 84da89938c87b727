#include <faiss_ext/io/index_header.h>

#include <faiss_ext/io/section_fields.h>

namespace faiss_ext {

namespace {

// The order of these lines is the file format.
template <class Fields, class Header>
void transfer_header(Fields& fields, Header& h, uint32_t version) {
    fields(h.d);
    fields(h.nlist);
    fields(h.ntotal);
    fields(h.metric);
    fields(h.is_trained);
    fields(h.verbose);
    fields(h.quantizer_trains_alone);
    fields(h.direct_map_type);
    fields(h.parallel_mode);
    fields(h.nprobe);
    fields(h.max_codes);
    fields(h.reorder_k);
    fields(h.refine_k);
    fields(h.calibration.target_recall);
    fields(h.calibration.k);
    fields(h.calibration.nprobe);
    fields(h.calibration.refine_k);
    fields(h.calibration.reorder_k);
    fields(h.calibration.recall);
    auto& o = h.options;
    fields(o.sub_dim);
    fields(o.M);
    fields(o.eta);
    fields(o.threshold);
    transfer_enum(fields, o.eta_formula, EtaFormula::Limit);
    transfer_enum(fields, o.rotation, RotationKind::Random);
    fields(o.normalize);
    fields(o.allow_zero);
    fields(o.score_aware_centroids);
    fields(o.soar_lambda);
    transfer_enum(fields, o.refine_type, RefineType::BF16);
    fields(o.with_raw_data);
    fields(o.seed);
    fields(o.max_points_per_centroid);
    fields(o.kmeans_rounds);
    if (version >= 4) {
        transfer_enum(fields, o.raw_type, RowType::UInt8);
    }
    if (version >= 5) {
        fields(o.coded_dims);
        fields(o.with_tags);
        fields(o.auto_maintain);
        fields(h.changed);
    }
}

} // namespace

void put_header(SectionSink& sink, const IndexHeader& header) {
    FieldWriter fields{sink};
    transfer_header(fields, header, kFormatVersion);
}

IndexHeader get_header(ByteReader reader, uint32_t version) {
    IndexHeader h;
    FieldReader fields{reader};
    transfer_header(fields, h, version);
    reader.finish();
    reader.check(h.d >= 1 && h.d <= 65536, "dimension out of range");
    // list numbers are 32 bits in direct maps and spilled copies
    reader.check(h.nlist < (uint64_t(1) << 32), "too many lists");
    reader.check(h.nlist > 0 || !h.is_trained, "no lists");
    reader.check(h.ntotal >= 0, "negative number of vectors");
    reader.check(h.metric <= 1, "unknown metric");
    reader.check(h.quantizer_trains_alone <= 2, "unknown kind of training");
    reader.check(h.direct_map_type <= 2, "unknown kind of direct map");
    reader.check(h.is_trained || h.ntotal == 0, "untrained, but with vectors");
    const ScaNNCalibration& c = h.calibration;
    reader.check(
            is_share(c.target_recall) && is_share(c.recall),
            "a recall is not between 0 and 1");
    reader.check(
            c.k > 0 || (c.nprobe == 0 && c.refine_k == 0 && c.reorder_k == 0),
            "calibrated for k = 0");
    return h;
}

} // namespace faiss_ext
