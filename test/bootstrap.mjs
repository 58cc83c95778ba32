// Makes a fresh clone ready, then hands over to the pinned Node: `node test/bootstrap.mjs SCRIPT.ts [ARG ...]`.
// Plain JavaScript without dependencies, because it runs before anything is installed and on any Node from 20 on.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const lock = path.join(root, 'package-lock.json');
const stamp = path.join(root, 'node_modules', '.slm-operator-installed');
const wanted = createHash('sha256')
  .update(readFileSync(lock))
  .update(process.platform)
  .update(process.arch)
  .digest('hex');

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  const started = Date.now();
  console.log('installing npm packages (once; about a minute on an empty cache) …');
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip', ONNXRUNTIME_NODE_INSTALL_CUDA: 'skip' };
  // Not `npm ci`: it refuses a lock file without the packages of platforms that some registries do not carry. This takes the
  // same versions from the lock file and leaves it as it is.
  const npm = spawnSync('npm', ['install', '--no-save', '--loglevel=error'], { cwd: root, stdio: 'inherit', env });
  if (npm.error || npm.status !== 0) {
    console.error(
      `npm install failed${npm.error ? `: ${npm.error.message}` : ''}. Check the network or registry above and run the command again.`,
    );
    process.exit(npm.status || 1);
  }
  mkdirSync(path.dirname(stamp), { recursive: true });
  writeFileSync(stamp, wanted);
  console.log(`npm packages installed in ${Math.round((Date.now() - started) / 1000)} s`);
}

// The pinned Node is an optional dependency for Linux; elsewhere the host's own must be new enough.
const pinned = path.join(root, 'node_modules', '.bin', 'node');
const node = existsSync(pinned) ? pinned : process.execPath;
const major = Number(spawnSync(node, ['-p', 'process.versions.node.split(".")[0]'], { encoding: 'utf8' }).stdout);
if (!(major >= 24)) {
  console.error(
    `Node ${process.version} cannot run this, and no pinned Node came with the packages: install Node 24 or later.`,
  );
  process.exit(1);
}
const child = spawnSync(node, ['--disable-warning=ExperimentalWarning', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, PATH: `${path.join(root, 'node_modules', '.bin')}${path.delimiter}${process.env.PATH}` },
});
if (child.signal) process.kill(process.pid, child.signal);
process.exit(child.status ?? 1);
