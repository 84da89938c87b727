/* Stands for another Knowhere: its factory registers nothing as 2.6's does. The
 * preloaded library must see it and stay out. */

namespace knowhere {

struct IndexFactory {
    static IndexFactory& Instance();
};

IndexFactory& IndexFactory::Instance() {
    static IndexFactory factory;
    return factory;
}

} // namespace knowhere

int main() {
    knowhere::IndexFactory::Instance();
    return 0;
}
