#include <faiss_ext/io/run_files.h>

#include <faiss_ext/io/list_sections.h>
#include <faiss_ext/io/section_fields.h>

namespace faiss_ext {

namespace {

constexpr const char* kRun = "run";

// The order of these lines is the file format.
template <class Fields, class Header>
void transfer_run(Fields& fields, Header& header) {
    fields(header.first);
    fields(header.rows);
    fields(header.training);
    fields(header.ends);
}

} // namespace

RunLayout RunLayout::of(const IndexState& state) {
    RunLayout layout{state.ivf.nlist, state.lists->layout(), {}};
    if (state.spilled != nullptr) {
        layout.copies = state.spilled->layout();
    }
    return layout;
}

uint32_t file_checksum(const std::string& path) {
    InputFile file(path);
    faiss::FileIOReader stream(file.stream());
    return SectionReader(&stream, file.size(), true).checksum();
}

void write_run(
        const std::string& path,
        const RunHeader& header,
        const IndexState& state) {
    std::vector<Section> sections = {{kRun, [&](SectionSink& sink) {
                                          FieldWriter fields{sink};
                                          transfer_run(fields, header);
                                      }}};
    add_list_sections(*state.lists, state.spilled.get(), sections);
    OutputFile file(path);
    stream_sections(sections, file);
    file.become_target();
}

RunReader::RunReader(
        const std::string& path,
        const RunLayout& layout,
        size_t buffer)
        : buffer_(buffer), file_(path) {
    setvbuf(file_.stream(), buffer_.data(), _IOFBF, buffer_.size());
    stream_ = std::make_unique<faiss::FileIOReader>(file_.stream());
    sections_ =
            std::make_unique<SectionReader>(stream_.get(), file_.size(), true);
    ByteReader section = sections_->read_all(kRun);
    FieldReader fields{section};
    transfer_run(fields, header_);
    section.finish();
    auto table = [&](const std::string& prefix, const EntryLayout& entries) {
        return get_list_table(
                sections_->read_all(prefix + "lists"),
                layout.nlist,
                entries,
                header_.rows,
                sections_->version());
    };
    sizes_ = table("", layout.lists);
    if (layout.copies) {
        copies_ = table(kOfCopies, *layout.copies);
    }
}

void RunReader::drop_sizes() {
    sizes_ = {};
    copies_ = {};
}

} // namespace faiss_ext
