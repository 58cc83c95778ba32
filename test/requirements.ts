/** What each tier of the tests needs of the machine, told in one sentence where it is missing. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

async function works(command: string, ...args: string[]): Promise<boolean> {
  return run(command, args).then(
    () => true,
    () => false,
  );
}

/** Why etcd and kube-apiserver cannot run here; undefined where they can. */
export async function whyNoControlPlane(): Promise<string | undefined> {
  if (process.platform !== 'linux') return `it needs Linux and this is ${process.platform}`;
  if (!(await works('go', 'version')))
    return 'it builds etcd and kube-apiserver with Go and there is no go on the PATH';
  return undefined;
}

/** Why no local cluster can run here; undefined where one can. */
export async function whyNoLocalCluster(): Promise<string | undefined> {
  if (await works('docker', 'info')) return undefined;
  const missing = await whyNoControlPlane();
  if (missing) return missing;
  if (process.getuid?.() !== 0) return 'it needs root (network namespaces and mounts) or a running Docker engine';
  return undefined;
}
