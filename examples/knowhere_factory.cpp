/*
 * Every index type of the factory by Knowhere's names: build, search, range
 * search, save, open. Nothing throws; every fault is a Status with a message.
 */

#include <knowhere_plugin/index_factory.h>

#include <cstdio>
#include <random>

using namespace knowhere_plugin;

int main() {
    constexpr int64_t d = 32, n = 5000;
    std::minstd_rand random;
    std::vector<float> rows(n * d);
    for (float& value : rows) {
        value = float(random()) / float(random.max()) - .5f;
    }
    const DataSet base{n, d, rows.data()};
    const DataSet query{1, d, rows.data() + 77 * d};

    for (const char* type : {"SCANN", "IVF_FLAT", "HNSW", "FLAT"}) {
        auto node = IndexFactory::Instance().Create(type).value();
        Status built = node->Build(base, {{"metric_type", "COSINE"}});
        if (!built.ok()) {
            std::printf("%s: %s\n", type, built.message.c_str());
            return 1;
        }
        auto found = node->Search(query, {{"k", "3"}});
        auto near = node->RangeSearch(query, {{"radius", "0.9"}});

        Blob saved = node->Serialize().value();
        auto opened = IndexFactory::Instance().Create(type).value();
        bool same = opened->Deserialize(saved, {}).ok() &&
                    opened->Search(query, {{"k", "3"}}).value().ids[0] ==
                            found.value().ids[0];
        std::printf(
                "%s: row %lld, %lld within .9, %s\n",
                type,
                (long long)found.value().ids[0],
                (long long)near.value().lims[1],
                same ? "the same when opened again" : "another one");
    }
}
