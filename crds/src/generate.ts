/**
 * Writes what is made from the schemas: crds/generated/*.yaml, the chart's copy, and the pages in docs/spec. `--check` writes
 * nothing and exits 1 when a file differs, which is how CI sees a schema that was changed without them.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stringify } from 'yaml';
import { GROUP } from './contract.ts';
import { kinds, makeCrd } from './kinds.ts';
import { makeReference } from './reference.ts';
import { makeSettingsReference } from './settings-reference.ts';

const root = path.resolve(import.meta.dirname, '../..');
const check = process.argv.includes('--check');

const contract = await readFile(path.join(import.meta.dirname, 'contract.ts'), 'utf8');
const files = new Map<string, string>([
  ['docs/spec/api.md', makeReference()],
  ['docs/spec/server-settings.md', makeSettingsReference(contract)],
]);
for (const kind of kinds) {
  const yaml = stringify(makeCrd(kind), { lineWidth: 0, aliasDuplicateObjects: false });
  const text = `# Generated from crds/src by \`npm run generate\`; do not edit.\n${yaml}`;
  for (const folder of ['crds/generated', 'charts/slm-operator/files/crds']) {
    files.set(`${folder}/${GROUP}_${kind.plural}.yaml`, text);
  }
}

let stale = 0;
for (const [name, text] of files) {
  const file = path.join(root, name);
  if ((await readFile(file, 'utf8').catch(() => '')) === text) continue;
  stale++;
  if (check) {
    console.error(`${name} is not what crds/src says: run npm run generate and commit it`);
    continue;
  }
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, text);
  console.log(`wrote ${name}`);
}
if (check && stale > 0) process.exit(1);
