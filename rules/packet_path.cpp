#include "rules/packet_path.hpp"

#include <algorithm>

#include "rules/nft_text.hpp"
#include "rules/text.hpp"

namespace sluice {
namespace {

// --- The picture, without a language ------------------------------------------------------------------------------------

enum class Shape { start, question, end };

struct Node {
  std::string id;
  Shape shape;
  std::vector<std::string> lines;
};

struct Arrow {
  std::string from;
  std::string to;
  std::string label;
};

/// The nodes of one chain.
struct Group {
  std::string title;
  std::vector<Node> nodes;
};

struct Picture {
  std::vector<Node> nodes;
  std::vector<Group> groups;
  std::vector<Arrow> arrows;
};

/// What becomes of a packet that a rule decides on; empty where it goes on to the next chain.
std::string ending(const Action& action) {
  return std::visit(
      Overloaded{
          [](const Redirect& a) { return "redirected to port " + std::to_string(a.port.number()); },
          [](const Tproxy& a) { return "handed to the transparent port " + std::to_string(a.port.number()); },
          [](const Reject& a) {
            return std::string(a.with == RejectWith::tcp_reset ? "refused with a TCP reset"
                                                               : "refused: port unreachable");
          },
          [](const Drop&) { return std::string("dropped"); },
          [](const auto&) { return std::string(); },
      },
      action);
}

/// What else the rule does to the packet.
std::string side_effect(const Action& action) {
  return std::visit(Overloaded{
                        [](const SetZone& a) { return "conntrack zone " + std::to_string(a.zone); },
                        [](const SetConnectionMark& a) { return "connection mark " + hex32(a.mark); },
                        [](const SetPacketMark& a) { return "packet mark " + hex32(a.mark); },
                        [](const auto&) { return std::string(); },
                    },
                    action);
}

std::string condition(const Rule& rule) {
  if (rule.matches.empty()) return "everything";
  // A rule's text ends in its verdict, which the arrow says.
  const std::string text = to_nft(rule);
  const std::string verdict = to_nft(Rule{rule.name, {}, rule.action});
  return text.substr(0, text.size() - verdict.size() - 1);
}

/// Rules in a row with one name and one action are one question.
std::vector<std::vector<const Rule*>> questions(const Chain& chain) {
  std::vector<std::vector<const Rule*>> found;
  for (const Rule& rule : chain.rules) {
    const bool same =
        !found.empty() && found.back().back()->name == rule.name && found.back().back()->action == rule.action;
    if (!same) found.emplace_back();
    found.back().push_back(&rule);
  }
  return found;
}

class Painter {
 public:
  explicit Painter(const Ruleset& ruleset) : ruleset_(ruleset) {}

  Picture paint() {
    way({"made", Shape::start, {"a packet made in this namespace"}}, {Hook::output});
    way({"arrives", Shape::start, {"a packet that arrives"}}, {Hook::prerouting, Hook::input});
    return std::move(picture_);
  }

 private:
  void way(const Node& start, const std::vector<Hook>& hooks) {
    const std::vector<const Chain*> chains = in_order(hooks);
    if (chains.empty()) return;
    picture_.nodes.push_back(start);
    arrow(start.id, entry(*chains.front()), "");
    for (std::size_t at = 0; at < chains.size(); ++at) {
      through(*chains[at], at + 1 < chains.size() ? entry(*chains[at + 1]) : end("left alone from here on"));
    }
  }

  [[nodiscard]] std::vector<const Chain*> in_order(const std::vector<Hook>& hooks) const {
    std::vector<const Chain*> chains;
    for (const Hook hook : hooks) {
      const auto begin = static_cast<std::ptrdiff_t>(chains.size());
      for (const Chain& chain : ruleset_.chains) {
        if (chain.hook == hook && !chain.rules.empty()) chains.push_back(&chain);
      }
      std::stable_sort(chains.begin() + begin, chains.end(),
                       [](const Chain* a, const Chain* b) { return a->priority < b->priority; });
    }
    return chains;
  }

  void through(const Chain& chain, const std::string& next_chain) {
    Group group{chain.name + ": " + std::string(to_text(chain.type)) + " " + std::string(to_text(chain.hook)) + " " +
                    std::to_string(chain.priority),
                {}};
    const auto asked = questions(chain);
    for (std::size_t at = 0; at < asked.size(); ++at) {
      const Rule& rule = *asked[at].front();
      Node node{chain.name + "_" + std::to_string(at), Shape::question, {"[" + rule.name + "]"}};
      for (const Rule* one : asked[at]) node.lines.push_back(condition(*one));
      const std::string ends = ending(rule.action);
      const std::string effect = side_effect(rule.action);
      arrow(node.id, ends.empty() ? next_chain : end(ends), effect.empty() ? "yes" : "yes: " + effect);
      arrow(node.id, at + 1 < asked.size() ? chain.name + "_" + std::to_string(at + 1) : next_chain, "no");
      group.nodes.push_back(std::move(node));
    }
    picture_.groups.push_back(std::move(group));
  }

  static std::string entry(const Chain& chain) { return chain.name + "_0"; }

  std::string end(const std::string& text) {
    const auto known = std::find(ends_.begin(), ends_.end(), text);
    const auto number = known - ends_.begin();
    std::string id = "end_" + std::to_string(number);
    if (known == ends_.end()) {
      ends_.push_back(text);
      picture_.nodes.push_back({id, Shape::end, {text}});
    }
    return id;
  }

  void arrow(const std::string& from, const std::string& to, const std::string& label) {
    picture_.arrows.push_back({from, to, label});
  }

  const Ruleset& ruleset_;
  Picture picture_;
  std::vector<std::string> ends_;
};

Picture picture_of(const Ruleset& ruleset) { return Painter(ruleset).paint(); }

// --- Mermaid ------------------------------------------------------------------------------------------------------------

/// Mermaid has no backslash escapes but HTML's entities, with # for &.
std::string mermaid_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "#quot;";
        break;
      case '#':
        out += "#35;";
        break;
      case '<':
        out += "#lt;";
        break;
      case '>':
        out += "#gt;";
        break;
      case '&':
        out += "#amp;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string mermaid_node(const Node& node) {
  std::vector<std::string> lines;
  for (const std::string& line : node.lines) lines.push_back(mermaid_text(line));
  const std::string label = "\"" + join(lines, "<br>") + "\"";
  switch (node.shape) {
    case Shape::start:
      return node.id + "([" + label + "])";
    case Shape::question:
      return node.id + "[" + label + "]";
    case Shape::end:
      return node.id + "{{" + label + "}}";
  }
  return node.id;
}

// --- Graphviz -----------------------------------------------------------------------------------------------------------

std::string dot_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string dot_node(const Node& node) {
  std::string label;
  // \l ends a line that is aligned to the left.
  for (const std::string& line : node.lines) label += dot_text(line) + (node.lines.size() > 1 ? "\\l" : "");
  const char* shape = node.shape == Shape::start ? "oval" : node.shape == Shape::question ? "box" : "hexagon";
  return node.id + " [shape=" + shape + ", label=\"" + label + "\"];";
}

}  // namespace

std::string to_mermaid(const Ruleset& ruleset) {
  const Picture picture = picture_of(ruleset);
  std::string text = "flowchart TD\n";
  for (const Node& node : picture.nodes) text += "  " + mermaid_node(node) + "\n";
  for (const Group& group : picture.groups) {
    text += "  subgraph \"" + mermaid_text(group.title) + "\"\n";
    for (const Node& node : group.nodes) text += "    " + mermaid_node(node) + "\n";
    text += "  end\n";
  }
  for (const Arrow& arrow : picture.arrows) {
    const std::string label = arrow.label.empty() ? "" : "|" + mermaid_text(arrow.label) + "|";
    text += "  " + arrow.from + " -->" + label + " " + arrow.to + "\n";
  }
  return text;
}

std::string to_dot(const Ruleset& ruleset) {
  const Picture picture = picture_of(ruleset);
  std::string text = "digraph sluice {\n  node [fontname=monospace];\n";
  for (const Node& node : picture.nodes) text += "  " + dot_node(node) + "\n";
  for (std::size_t at = 0; at < picture.groups.size(); ++at) {
    const Group& group = picture.groups[at];
    text += "  subgraph cluster_" + std::to_string(at) + " {\n    label=\"" + dot_text(group.title) + "\";\n";
    for (const Node& node : group.nodes) text += "    " + dot_node(node) + "\n";
    text += "  }\n";
  }
  for (const Arrow& arrow : picture.arrows) {
    text += "  " + arrow.from + " -> " + arrow.to;
    text += (arrow.label.empty() ? "" : " [label=\"" + dot_text(arrow.label) + "\"]") + ";\n";
  }
  return text + "}\n";
}

}  // namespace sluice
