// The words that the search looks for, and the order of its results. docs_tools/search.py adds this script to Zensical's
// worker, which finds the sections with every word and calls `ranked`. What counts in the order: an error message comes
// last, or first if most of its words were asked for; words of the question in the title, half as much in the titles
// above it; a title of nothing else; the kind of the page.
(() => {
  const COMMON = new Set(
    (
      "a an and are can do does each for get has have how i in into is it made may me my no of on only or project put " +
      "take that the this to what when where which whose why will with without"
    ).split(" "),
  );
  // Locations are addresses: the site may lie anywhere.
  const ERRORS = /\breference\/errors\/(?!index)/;
  const KINDS = [
    /\bhow_to\/(?!index)/, /\breference\/glossary/, /\breference\/(configuration|environment)/,
    /\b(start|tutorial|explanation)\//, /\breference\/(?!api|errors)/,
  ];
  const plain = (text) => text.replace(/<[^>]*>/g, "").toLowerCase();
  const wordsOf = (text) => plain(text).match(/[\p{L}\p{N}]+/gu) ?? [];
  const starts = (titles, word) => titles.some((title) => title.startsWith(word));
  const isCommon = (word) => COMMON.has(word);
  // Without a plural's or verb's s: Zensical finds words by their beginning.
  const stemOf = (word) => word.replace(/^(\p{L}{3,}[^\Ws])s$/u, "$1");
  let pages = [];
  let asked = [];

  function pageOf({ location, title, text, path }) {
    const kind = KINDS.findIndex((each) => each.test(location));
    return {
      isError: ERRORS.test(location),
      isCode: ERRORS.test(location) || /\breference\/api/.test(location),
      // Every change is in the list of changes: it answers no question.
      words: location.startsWith("changelog") ? "" : ` ${wordsOf(`${title} ${text}`).join(" ")}`,
      title: wordsOf(title),
      above: wordsOf((path ?? []).join(" ")),
      kind: kind < 0 ? KINDS.length : kind,
    };
  }

  // What decides about a result, the most important first; larger is better.
  function worthOf(page) {
    const share = page.title.filter((word) => asked.includes(word)).length / (page.title.length || 1);
    const numFound = asked.filter((word) => page.title.includes(word)).length;
    const isAsked = numFound > 3 && (share > 0.5 || asked.every((word) => starts(page.title, word)));
    // A digit in a title is its number.
    const important = asked.filter((word) => !isCommon(word) && !/^\d$/.test(word)).map(stemOf);
    const isAll = important.every((word) => starts(page.title, word));
    const points = important.map((word) => (starts(page.title, word) ? 2 : starts(page.above, word) ? 1 : 0));
    return [
      page.isError ? (isAsked ? 1 + share : 0) : 1,
      points.reduce((sum, each) => sum + each, 0),
      isAll ? share : 0,
      -page.kind,
    ];
  }

  self.ranked = (items) => {
    const worth = new Map(items.map((item) => [item, worthOf(pages[item.id])]));
    // Equal ones stay in Zensical's order.
    return items.sort((a, b) => {
      const first = worth.get(a).findIndex((value, number) => value !== worth.get(b)[number]);
      return first < 0 ? 0 : worth.get(b)[first] - worth.get(a)[first];
    });
  };

  const holds = (page, word) => wordsOf(word).every((each) => page.words.includes(` ${each}`));

  // The words that stand together: all, or the ones of the section that has most of them; rare words count more, and
  // threefold in a title.
  function togetherOf(words) {
    const rarity = words.map((word) => Math.log(pages.length / pages.filter((page) => holds(page, word)).length));
    const found = words.filter((_, number) => Number.isFinite(rarity[number]));
    if (pages.some((page) => words.every((word) => holds(page, word)))) return words;
    const titles = (page, word) => wordsOf(word).every((each) => starts(page.title, each));
    const valueOf = (page) =>
      words.reduce((sum, word, n) => sum + (holds(page, word) ? rarity[n] * (titles(page, word) ? 3 : 1) : 0), 0);
    const sections = pages.filter(({ isCode }) => !isCode).map((page) => [valueOf(page), page]);
    const [, best] = sections.reduce((a, b) => (b[0] > a[0] ? b : a), [0, undefined]);
    return best ? found.filter((word) => holds(best, word)) : words;
  }

  const answer = self.onmessage;
  self.onmessage = ({ data }) => {
    if (data.data?.items) pages = data.data.items.map(pageOf);
    if (typeof data.data?.input === "string") {
      asked = [...new Set(wordsOf(data.data.input))];
      // Every word must be found: common ones are not looked for, nor those that no section has with the others.
      const important = data.data.input.split(/\s+/).filter((each) => !wordsOf(each).every(isCommon));
      if (important.join("")) data.data.input = togetherOf(important.map(stemOf)).join(" ");
    }
    answer({ data });
  };
})();
