// Microsoft's parser and binder of Kusto: the npm package whose folder is the first argument.
//
// With `functions` as the second argument it prints what it knows, a JSON object a line: `kind`
// (scalar or aggregate), `name`, and the least and most arguments of any signature. Otherwise it
// reads queries, `{"id", "query"}` a line, and prints `{"id", "error"}` or `{"id", "columns"}`, where
// `open` says that more columns may come when the query runs.
global.window = global;
require(process.argv[2] + '/bridge.min.js');
require(process.argv[2] + '/Kusto.Language.Bridge.min.js');
const Kusto = global.Kusto.Language;

function each(list, visit) {
  if (Array.isArray(list)) return list.forEach(it => visit(it));
  for (let at = 0; at < list.Count; at++) visit(list.getItem(at));
}

function functions() {
  const all = [['scalar', Kusto.Functions.All], ['aggregate', Kusto.Aggregates.All]];
  for (const [kind, list] of all) {
    each(list, it => {
      if (it.IsHidden || it.IsObsolete) return;
      let [least, most] = [Infinity, 0];
      each(it.Signatures, signature => {
        least = Math.min(least, signature.MinArgumentCount);
        most = Math.max(most, signature.MaxArgumentCount);
      });
      console.log(JSON.stringify({ kind, name: it.Name, least, most: Math.min(most, 99) }));
    });
  }
}

function answer(line) {
  const { id, query } = JSON.parse(line);
  const code = Kusto.KustoCode.ParseAndAnalyze(query, Kusto.GlobalState.Default);
  let error = null;
  each(code.GetDiagnostics(), it => {
    if (it.Severity === 'Error') error ??= `${it.Code} ${it.Message}`;
  });
  if (error) return { id, error };
  const columns = [];
  if (code.ResultType?.Columns) {
    each(code.ResultType.Columns, it => columns.push({ name: it.Name, type: it.Type.Name }));
  }
  return { id, columns, open: code.ResultType?.IsOpen === true };
}

if (process.argv[3] === 'functions') {
  functions();
} else {
  const input = require('readline').createInterface({ input: process.stdin });
  input.on('line', line => {
    let answered;
    try {
      answered = answer(line);
    } catch (error) {
      // The parser itself falls over a few queries that are cut short.
      answered = { id: JSON.parse(line).id, error: `parser: ${error.message}` };
    }
    process.stdout.write(JSON.stringify(answered) + '\n');
  });
}
