/**
 * Writes crds/generated/*.yaml and the chart's copy. `--check` writes nothing and exits 1 when a file differs, which is how
 * CI sees a schema that was changed without its YAML.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stringify } from 'yaml';
import { GROUP } from './contract.ts';
import { kinds, makeCrd } from './kinds.ts';

const root = path.resolve(import.meta.dirname, '../..');
const check = process.argv.includes('--check');
const header = '# Generated from crds/src by `npm run generate`; do not edit.\n';

let stale = 0;
for (const kind of kinds) {
  const body = stringify(makeCrd(kind), { lineWidth: 0, aliasDuplicateObjects: false });
  const name = `${GROUP}_${kind.plural}.yaml`;
  for (const folder of ['crds/generated', 'charts/slm-operator/files/crds']) {
    const file = path.join(root, folder, name);
    const before = await readFile(file, 'utf8').catch(() => '');
    if (before === header + body) continue;
    stale++;
    if (check) {
      console.error(`${path.relative(root, file)} is not what crds/src says: run npm run generate and commit it`);
      continue;
    }
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, header + body);
    console.log(`wrote ${path.relative(root, file)}`);
  }
}
if (check && stale > 0) process.exit(1);
