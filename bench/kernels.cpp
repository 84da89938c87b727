/*
 * Every kernel at every level that runs here, next to the machine's read and
 * copy bandwidth over the same number of bytes.
 *
 *   bench/kernels --benchmark_filter='scan/.*'
 *   bench/kernels --benchmark_repetitions=9   (look at the rows "_min")
 *
 * bytes_per_second counts the bytes a kernel must read once: codes, rows or
 * panels. Names: kernel/level/parameters.
 */

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/kernels/dispatch.h>

namespace {

using benchmark::State;
using faiss_ext::AlignedBuffer;
using namespace faiss_ext::kernels;

std::mt19937 rng(1);

/// Data sets for L1, L2, L3 and DRAM of a server core.
const size_t kSizes[] = {16 << 10, 512 << 10, 8 << 20, 256 << 20};

std::string size_name(size_t bytes) {
    return bytes >= 1 << 20 ? std::to_string(bytes >> 20) + "M"
                            : std::to_string(bytes >> 10) + "K";
}

/// "nq:4" and the like.
std::string label(const char* what, size_t value) {
    std::string text(what);
    text += std::to_string(value);
    return text;
}

AlignedBuffer<uint8_t> random_bytes(size_t n) {
    AlignedBuffer<uint8_t> bytes((n + 7) / 8 * 8);
    uint8_t* p = bytes.mutable_data();
    uint64_t x = rng();
    for (size_t i = 0; i < bytes.size(); i += 8) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint64_t mixed = x ^ x >> 29;
        memcpy(p + i, &mixed, 8);
    }
    return bytes;
}

AlignedBuffer<float> random_floats(size_t n) {
    AlignedBuffer<float> floats(n);
    std::uniform_real_distribution<float> uniform(-1, 1);
    float* p = floats.mutable_data();
    for (size_t i = 0; i < n; i++) {
        p[i] = uniform(rng);
    }
    return floats;
}

void bytes_read(State& state, size_t bytes) {
    state.SetBytesProcessed(
            static_cast<int64_t>(state.iterations()) *
            static_cast<int64_t>(bytes));
}

double minimum(const std::vector<double>& times) {
    return *std::min_element(times.begin(), times.end());
}

void add(const std::string& name, std::function<void(State&)> run) {
    benchmark::RegisterBenchmark(name.c_str(), run)
            ->ComputeStatistics("min", minimum);
}

// ------------------------------------------------------------------- machine

void read_memory(State& state, size_t bytes) {
    AlignedBuffer<uint8_t> data = random_bytes(bytes);
    using Wide = uint64_t __attribute__((vector_size(16)));
    const Wide* p = reinterpret_cast<const Wide*>(data.data());
    for (auto _ : state) {
        Wide a = {}, b = {}, c = {}, d = {};
        for (size_t i = 0; i < bytes / sizeof(Wide); i += 4) {
            a |= p[i];
            b |= p[i + 1];
            c |= p[i + 2];
            d |= p[i + 3];
        }
        Wide all = a | b | c | d;
        benchmark::DoNotOptimize(all[0] | all[1]);
    }
    bytes_read(state, bytes);
}

void copy_memory(State& state, size_t bytes) {
    AlignedBuffer<uint8_t> from = random_bytes(bytes / 2);
    AlignedBuffer<uint8_t> to(bytes / 2);
    uint8_t* p = to.mutable_data();
    for (auto _ : state) {
        memcpy(p, from.data(), bytes / 2);
        benchmark::ClobberMemory();
    }
    bytes_read(state, bytes / 2);
}

// ---------------------------------------------------------------------- scan

/// Lists of 1024 vectors one after the other; about one vector in 1000 passes.
void scan(
        State& state,
        const Kernels& kernels,
        size_t bytes,
        size_t M,
        size_t nq,
        bool has_term) {
    const size_t groups = (M + 3) / 4;
    const size_t block = (groups + has_term) * 64;
    const size_t n = bytes / block * 32;
    AlignedBuffer<uint8_t> codes = random_bytes(bytes);
    AlignedBuffer<uint8_t> tables = random_bytes(nq * groups * 64);
    std::vector<uint64_t> keys(nq * 4096);
    int64_t survivors = 0;
    for (auto _ : state) {
        for (size_t v = 0; v < n; v += 1024) {
            ScanList list{
                    codes.data() + v / 32 * block,
                    std::min<size_t>(1024, n - v),
                    groups,
                    has_term,
                    nullptr,
                    nullptr};
            ScanQuery queries[kMaxScanQueries] = {};
            for (size_t q = 0; q < nq; q++) {
                queries[q].table = tables.data() + q * groups * 64;
                queries[q].threshold = static_cast<int32_t>(
                        groups * 4 * 127.5 +
                        3.1 * 73.9 * std::sqrt(groups * 4.0));
                queries[q].keys = keys.data() + q * 4096;
                queries[q].capacity = 4096 - kScanSlack;
            }
            kernels.scan(list, 0, queries, nq);
            survivors += static_cast<int64_t>(queries[0].count);
        }
    }
    bytes_read(state, n / 32 * block);
    double scored = static_cast<double>(state.iterations()) *
                    static_cast<double>(n * nq);
    state.counters["vectors"] =
            benchmark::Counter(scored, benchmark::Counter::kIsRate);
    state.counters["kept"] =
            static_cast<double>(survivors) * static_cast<double>(nq) / scored;
}

// -------------------------------------------------------------------- panels

/// @param products  of an iteration, each with its addition
void count_operations(State& state, size_t products) {
    state.counters["ops"] = benchmark::Counter(
            2. * static_cast<double>(state.iterations()) *
                    static_cast<double>(products),
            benchmark::Counter::kIsRate);
}

void panel_products(
        State& state,
        const Kernels& kernels,
        size_t nx,
        size_t ny,
        size_t d) {
    AlignedBuffer<float> x = random_floats(nx * d);
    AlignedBuffer<float> panels = random_floats(ny * d);
    AlignedBuffer<float> out(nx * ny);
    PanelArgs args{
            x.data(), nx, d, d, panels.data(), ny, out.mutable_data(), ny};
    for (auto _ : state) {
        kernels.panel_products(args);
        benchmark::ClobberMemory();
    }
    bytes_read(state, ny * d * sizeof(float));
    count_operations(state, nx * ny * d);
}

void byte_panel_scores(
        State& state,
        const Kernels& kernels,
        size_t nq,
        size_t ny,
        size_t d) {
    AlignedBuffer<uint8_t> panels = random_bytes(ny * d);
    std::vector<int8_t> queries(nq * d, 17);
    std::vector<int32_t> excess(nq);
    std::vector<float> ones(nq, 1);
    std::vector<float> factors(ny, 0.01f);
    std::vector<float> out(nq * ny);
    BytePanelArgs args{
            queries.data(),
            nq,
            d,
            panels.data(),
            ny,
            excess.data(),
            ones.data(),
            ones.data(),
            factors.data(),
            factors.data(),
            factors.data(),
            out.data(),
            ny};
    for (auto _ : state) {
        kernels.byte_panel_scores(args);
        benchmark::ClobberMemory();
    }
    bytes_read(state, ny * d);
    count_operations(state, nq * ny * d);
}

// -------------------------------------------------------------------- tables

std::vector<uint32_t> uniform_offsets(size_t M, uint32_t width) {
    std::vector<uint32_t> offsets(M + 1);
    for (size_t m = 0; m <= M; m++) {
        offsets[m] = static_cast<uint32_t>(m) * width;
    }
    return offsets;
}

void tables(State& state, const Kernels& kernels, size_t M) {
    std::vector<uint32_t> offsets = uniform_offsets(M, 2);
    AlignedBuffer<float> query = random_floats(2 * M);
    AlignedBuffer<float> codebook = random_floats(2 * M * 16);
    AlignedBuffer<float> table(M * 16);
    AlignedBuffer<uint8_t> bytes((M + 3) / 4 * 64);
    for (auto _ : state) {
        TableArgs args{
                query.data(),
                offsets.data(),
                M,
                codebook.data(),
                table.mutable_data(),
                0,
                0};
        kernels.float_table(args);
        kernels.quantize_table(
                {table.data(), M, 255 / args.max_span, bytes.mutable_data()});
        benchmark::ClobberMemory();
    }
    bytes_read(state, codebook.size() * sizeof(float));
}

// ---------------------------------------------------------------------- rows

/// 1000 random rows at a time out of `bytes` bytes.
void rows(
        State& state,
        const Kernels& kernels,
        const std::string& kind,
        size_t bytes,
        size_t d) {
    const size_t width = kind == "int8"                     ? 1
                         : kind == "fp16" || kind == "bf16" ? 2
                                                            : 4;
    const size_t n = bytes / (width * d);
    AlignedBuffer<uint8_t> data(bytes); // zeros: no NaN
    AlignedBuffer<float> query = random_floats(d);
    std::vector<int8_t> high(d, 55);
    std::vector<int8_t> low(d, -5);
    const size_t batch = 1000;
    const size_t batches = 512; // more than L3 holds
    std::vector<const void*> pointers(batches * batch);
    for (const void*& p : pointers) {
        p = data.data() + rng() % n * width * d;
    }
    memset(data.mutable_data(), 1, bytes); // own pages, not the zero page
    std::vector<float> out(batch);
    std::vector<int32_t> byte_out(batch);
    size_t turn = 0;
    for (auto _ : state) {
        const void* const* first = pointers.data() + turn++ % batches * batch;
        if (width == 1) {
            kernels.byte_rows_dot(
                    {reinterpret_cast<const int8_t* const*>(first),
                     batch,
                     d,
                     high.data(),
                     low.data(),
                     byte_out.data()});
        } else {
            FloatRowsArgs args{first, batch, d, query.data(), out.data()};
            (kind == "fp16"       ? kernels.fp16_rows_dot
             : kind == "bf16"     ? kernels.bf16_rows_dot
             : kind == "float_l2" ? kernels.float_rows_l2
                                  : kernels.float_rows_dot)(args);
        }
        benchmark::ClobberMemory();
    }
    bytes_read(state, batch * d * width);
}

// -------------------------------------------------------------------- encode

void encode(State& state, const Kernels& kernels, size_t M, float eta) {
    const size_t n = 100;
    const size_t d = 2 * M;
    std::vector<uint32_t> offsets = uniform_offsets(M, 2);
    AlignedBuffer<float> residuals = random_floats(n * d);
    AlignedBuffer<float> directions = random_floats(n * d);
    float* u = directions.mutable_data();
    for (size_t i = 0; i < n * d; i++) {
        u[i] *= std::sqrt(3.f / static_cast<float>(d)); // norm about 1
    }
    AlignedBuffer<float> codebook = random_floats(d * 16);
    AlignedBuffer<float> scratch(M * 32);
    std::vector<uint8_t> codes(n * M);
    EncodeArgs args{
            residuals.data(),
            directions.data(),
            n,
            offsets.data(),
            M,
            codebook.data(),
            eta,
            10,
            scratch.mutable_data(),
            codes.data()};
    for (auto _ : state) {
        kernels.encode(args);
        benchmark::ClobberMemory();
    }
    bytes_read(state, n * d * sizeof(float));
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * n));
}

// -------------------------------------------------------------------- filter

void filter_masks(State& state, const Kernels& kernels, int64_t nbits) {
    const size_t n = 1 << 20;
    AlignedBuffer<uint8_t> bitmap =
            random_bytes(static_cast<size_t>(nbits + 7) / 8);
    std::vector<int64_t> ids(n);
    for (int64_t& id : ids) {
        id = static_cast<int64_t>(rng()) % nbits;
    }
    // as in a list: ascending within runs of 1000
    for (size_t i = 0; i < n; i += 1000) {
        std::sort(
                ids.begin() + static_cast<std::ptrdiff_t>(i),
                ids.begin() +
                        static_cast<std::ptrdiff_t>(std::min(n, i + 1000)));
    }
    std::vector<uint32_t> masks((n + 31) / 32);
    for (auto _ : state) {
        kernels.filter_masks(
                {ids.data(), n, bitmap.data(), nbits, masks.data()});
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * n));
}

/// name/part/part..
void add_at(
        const Kernels& k,
        std::initializer_list<std::string> name,
        std::function<void(State&, const Kernels&)> run) {
    std::string joined;
    for (const std::string& part : name) {
        joined += joined.empty() ? part + "/" + k.name : "/" + part;
    }
    add(joined, [&k, run](State& state) { run(state, k); });
}

void add_level(const Kernels& level) {
    using K = const Kernels&;
    for (size_t bytes : kSizes) {
        const std::string size = size_name(bytes);
        for (size_t M : {28, 64, 192}) {
            const std::string codes = label("M", M);
            for (size_t nq : {1, 2, 4}) {
                add_at(level,
                       {"scan", size, codes, label("nq:", nq)},
                       [=](State& s, K k) { scan(s, k, bytes, M, nq, false); });
            }
            add_at(level, {"scan", size, codes, "term"}, [=](State& s, K k) {
                scan(s, k, bytes, M, 1, true);
            });
        }
        for (const char* kind : {"int8", "fp16", "bf16", "float", "float_l2"}) {
            add_at(level, {"rows", size, kind}, [=](State& s, K k) {
                rows(s, k, kind, bytes, 384);
            });
        }
        add_at(level, {"panel_products", size, "nx:1"}, [=](State& s, K k) {
            panel_products(s, k, 1, bytes / 4 / 128, 128);
        });
        add_at(level, {"byte_panel_scores", size}, [=](State& s, K k) {
            byte_panel_scores(s, k, 1, bytes / 128, 128);
        });
    }
    for (size_t nx : {2, 8, 256}) {
        add_at(level,
               {"panel_products", "1008x384", label("nx:", nx)},
               [=](State& s, K k) { panel_products(s, k, nx, 1008, 384); });
        add_at(level,
               {"byte_panel_scores", "1008x384", label("nq:", nx)},
               [=](State& s, K k) { byte_panel_scores(s, k, nx, 1008, 384); });
    }
    for (size_t M : {32, 192}) {
        const std::string blocks = std::to_string(M) + "x2";
        add_at(level, {"tables", blocks}, [=](State& s, K k) {
            tables(s, k, M);
        });
        for (int eta : {1, 4}) {
            add_at(level,
                   {"encode", blocks, label("eta:", static_cast<size_t>(eta))},
                   [=](State& s, K k) {
                       encode(s, k, M, static_cast<float>(eta));
                   });
        }
    }
    for (int64_t nbits : {100'000, 100'000'000}) {
        add_at(level,
               {"filter_masks", std::to_string(nbits)},
               [=](State& s, K k) { filter_masks(s, k, nbits); });
    }
}

} // namespace

int main(int argc, char** argv) {
    for (size_t bytes : kSizes) {
        add(std::string("read/") + size_name(bytes),
            [bytes](State& s) { read_memory(s, bytes); });
        add(std::string("copy/") + size_name(bytes),
            [bytes](State& s) { copy_memory(s, bytes); });
    }
    for (const std::string& level : faiss_ext::simd_levels()) {
        faiss_ext::set_simd_level(level);
        add_level(faiss_ext::active_kernels());
    }
    benchmark::AddCustomContext("levels_best", faiss_ext::simd_levels()[0]);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 1;
    }
    benchmark::RunSpecifiedBenchmarks();
}
