/** The page of the inference server's settings, written from the comments in contract.ts so that it cannot differ from them. Pure. */

/**
 * @param contract text of contract.ts
 * @throws Error for a setting without a comment
 */
export function makeSettingsReference(contract: string): string {
  const [, block = ''] = /export const serverEnv = \{(.*?)\n\} as const/s.exec(contract) ?? [];
  const names = new Set([...block.matchAll(/^ {2}\w+: '(SLM_\w+)',/gm)].map(([, name]) => name));
  const rows = [...block.matchAll(/(?:\/\*\*((?:(?!\*\/).)*)\*\/\s*)?^ {2}\w+: '(SLM_\w+)',/gms)].map(
    ([, comment, name = '']) => {
      if (comment === undefined) throw new Error(`${name} in contract.ts has no comment: say what it sets`);
      const text = comment
        .split('\n')
        .map((line) => line.replace(/^\s*\*?\s*/, '').trim())
        .join(' ')
        .trim()
        // Comments name settings as the code does.
        .replace(/\b[A-Z]+(?:_[A-Z]+)+\b/g, (word) => (names.has(`SLM_${word}`) ? `\`SLM_${word}\`` : word));
      return `| \`${name}\` | ${text.replaceAll('|', '\\|')} |`;
    },
  );
  return `# Settings of the inference server

Generated from \`crds/src/contract.ts\` by \`npm run generate\`; do not edit. In pods the operator sets them, from the SLMDeployment. How
the server behaves is in [server.md](../server.md), with the names under which Ollama and Foundry Local know the same.

| variable | |
| --- | --- |
${rows.join('\n')}
`;
}
