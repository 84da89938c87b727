/*
 * The index types behind the factory, compared: recall@10, time per query,
 * bytes, build seconds.
 *
 *   bench_index_factory                        50,000 x 64, clustered
 *   bench_index_factory base.hbin query.hbin IP
 *
 * .hbin: uint32 rows, uint32 dim, then float16 rows. One line per type and
 * setting; times on one thread, nq = 1 and all queries in one call.
 */

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>

#include <knowhere_plugin/index_factory.h>

using namespace knowhere_plugin;

namespace {

constexpr int64_t kMaxQueries = 1000;

struct Rows {
    int64_t n = 0, d = 0;
    std::vector<float> values;

    DataSet set(int64_t first, int64_t count) const {
        return {count, d, values.data() + first * d};
    }
};

float from_half(uint16_t half) {
    uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
    float sign = half >> 15 ? -1.f : 1.f;
    return exponent == 0
                   ? sign * std::ldexp(float(fraction), -24)
                   : sign * std::ldexp(
                                    float(1024 + fraction), int(exponent) - 25);
}

Rows read_hbin(const std::string& path, int64_t limit) {
    std::ifstream in(path, std::ios::binary);
    uint32_t shape[2] = {};
    in.read(reinterpret_cast<char*>(shape), sizeof(shape));
    Rows rows{std::min<int64_t>(shape[0], limit), shape[1], {}};
    std::vector<uint16_t> halves(rows.n * rows.d);
    in.read(reinterpret_cast<char*>(halves.data()),
            std::streamsize(halves.size() * 2));
    if (!in || halves.empty()) {
        std::fprintf(stderr, "cannot read %s\n", path.c_str());
        std::exit(1);
    }
    for (uint16_t half : halves) {
        rows.values.push_back(from_half(half));
    }
    return rows;
}

Rows clustered(int64_t n, int64_t d, uint64_t seed) {
    std::mt19937_64 centers_random(1), random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> centers(500 * d);
    for (float& value : centers) {
        value = normal(centers_random);
    }
    Rows rows{n, d, {}};
    for (int64_t i = 0; i < n; i++) {
        const float* center = &centers[random() % 500 * d];
        for (int64_t j = 0; j < d; j++) {
            rows.values.push_back(center[j] + normal(random) / 2);
        }
    }
    return rows;
}

double now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

DataSet checked(Expected<DataSet> result) {
    if (!result.ok()) {
        std::fprintf(stderr, "%s\n", result.status().message.c_str());
        std::exit(1);
    }
    return result.value();
}

void check(const Status& status) {
    if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.message.c_str());
        std::exit(1);
    }
}

void run(
        IndexNode& node,
        const Rows& queries,
        const DataSet& truth,
        const std::string& name,
        double build_seconds,
        const Config& search) {
    DataSet found = checked(node.Search(queries.set(0, queries.n), search));
    double start = now();
    found = checked(node.Search(queries.set(0, queries.n), search));
    double batch = now() - start;
    start = now();
    for (int64_t q = 0; q < queries.n; q++) {
        checked(node.Search(queries.set(q, 1), search));
    }
    double single = now() - start;
    size_t hits = 0;
    for (int64_t q = 0; q < queries.n; q++) {
        const int64_t* want = truth.ids + q * 10;
        for (int64_t i = q * 10; i < q * 10 + 10; i++) {
            hits += std::count(want, want + 10, found.ids[i]);
        }
    }
    double n = double(queries.n);
    std::printf(
            "%-32s %7.4f %10.1f %10.1f %10.1f %8.2f\n",
            name.c_str(),
            double(hits) / (10 * n),
            single / n * 1e6,
            batch / n * 1e6,
            double(node.Size()) / 1e6,
            build_seconds);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 1 && argc != 4) {
        std::fprintf(
                stderr,
                "usage: %s [base.hbin query.hbin L2|IP|COSINE]\n",
                *argv);
        return 2;
    }
    Rows base =
            argc == 4 ? read_hbin(argv[1], INT64_MAX) : clustered(50000, 64, 2);
    Rows queries = argc == 4 ? read_hbin(argv[2], kMaxQueries)
                             : clustered(kMaxQueries, 64, 3);
    std::string metric = argc == 4 ? argv[3] : "L2";
    std::string nlist = std::to_string(int(4 * std::sqrt(double(base.n))));
    // IVF_PQ: about as many bytes as SCANN's codes, 4 dimensions each
    int64_t m = base.d / 4;
    while (base.d % m != 0) {
        m--;
    }
    struct Type {
        std::string type;
        Config build;
        std::vector<Config> searches;
    };
    std::vector<Config> probes = {
            {{"nprobe", "4"}}, {{"nprobe", "16"}}, {{"nprobe", "64"}}};
    std::vector<Type> types = {
            {"FLAT", {}, {{}}},
            {"SCANN", {{"nlist", nlist}}, probes},
            {"SCANN", {{"nlist", nlist}, {"with_raw_data", "false"}}, probes},
            {"IVF_FLAT", {{"nlist", nlist}}, probes},
            {"IVF_PQ", {{"nlist", nlist}, {"m", std::to_string(m)}}, probes},
            {"HNSW",
             {{"M", "16"}, {"efConstruction", "100"}},
             {{{"ef", "16"}}, {{"ef", "64"}}, {{"ef", "256"}}}}};
    std::printf(
            "%ld x %ld, %s, %ld queries, nlist %s\n%-32s %7s %10s %10s %10s "
            "%8s\n",
            long(base.n),
            long(base.d),
            metric.c_str(),
            long(queries.n),
            nlist.c_str(),
            "type",
            "recall",
            "us nq=1",
            "us batch",
            "MB",
            "build s");
    DataSet truth;
    for (Type& type : types) {
        NodePtr node = IndexFactory::Instance().Create(type.type).value();
        type.build["metric_type"] = metric;
        double start = now();
        check(node->Build(base.set(0, base.n), type.build));
        double seconds = now() - start;
        if (truth.rows == 0) {
            truth = checked(node->Search(queries.set(0, queries.n), {}));
        }
        for (const Config& search : type.searches) {
            std::string name = type.type;
            name += type.build.count("with_raw_data") ? " no raw" : "";
            for (const auto& [key, value] : search) {
                name += " " + key + "=" + value;
            }
            run(*node, queries, truth, name, seconds, search);
        }
    }
}
