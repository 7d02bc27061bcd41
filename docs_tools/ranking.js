// The order of the search's results. docs_tools/search.py adds this script to Zensical's worker, which finds the
// results and calls `ranked`. What counts, in this order: an error message comes last, or first if most of its words
// were asked for; words of the question in the title, half as much in the titles above it; a title of nothing else;
// the kind of the page.
(() => {
  const COMMON = new Set(
    "a an and are can do does for how i in is it me my of on or the to what when where which why with".split(" "),
  );
  // Locations are addresses: the site may lie anywhere.
  const ERRORS = /\breference\/errors\//;
  const KINDS = [
    /\bhow_to\/(?!index)/, /\breference\/glossary/, /\breference\/(configuration|environment)/,
    /\b(start|tutorial|explanation)\//, /\breference\/(?!api|errors)/,
  ];
  const plain = (text) => text.replace(/<[^>]*>/g, "").toLowerCase();
  const wordsOf = (text) => plain(text).match(/[\p{L}\p{N}]+/gu) ?? [];
  const starts = (titles, word) => titles.some((title) => title.startsWith(word));
  const isCommon = (word) => COMMON.has(word);
  let pages = [];
  let asked = [];

  function pageOf({ location, title, path }) {
    const kind = KINDS.findIndex((each) => each.test(location));
    return {
      isError: ERRORS.test(location),
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
    const important = asked.filter((word) => !isCommon(word));
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

  const answer = self.onmessage;
  self.onmessage = ({ data }) => {
    if (data.data?.items) pages = data.data.items.map(pageOf);
    if (typeof data.data?.input === "string") {
      asked = [...new Set(wordsOf(data.data.input))];
      // Every word must be found: common ones are not looked for.
      const important = data.data.input.split(/\s+/).filter((each) => !wordsOf(each).every(isCommon));
      if (important.join("")) data.data.input = important.join(" ");
    }
    answer({ data });
  };
})();
