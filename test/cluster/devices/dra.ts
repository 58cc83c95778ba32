/**
 * Owns a driver for dynamic resource allocation on a node of a bare cluster: the program of tools/dra-driver, alive inside the
 * node, so that it ends with the node's power. Its devices are none; what claims them is allocated, prepared and started as ever.
 */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Cluster } from '../cluster.ts';
import { waitUntil } from '../daemons.ts';
import { UserError } from '../errors.ts';
import type { Progress } from '../progress.ts';
import { ensureTools } from '../tools.ts';

/** A device of resource.k8s.io/v1, as a ResourceSlice lists it. */
export interface DraDevice {
  readonly name: string;
  readonly attributes?: Readonly<Record<string, object>>;
  readonly capacity?: Readonly<Record<string, { readonly value: string }>>;
}

/** What the driver is to be. */
export interface DraOffer {
  readonly node: string;
  /** Such as `gpu.example.com`. */
  readonly driver: string;
  readonly devices: readonly DraDevice[];
}

/** A driver that runs; disposing of it ends it. */
export interface DraDriver extends AsyncDisposable {
  /** Publishes other devices; resolves when the API server shows them. */
  setDevices(devices: readonly DraDevice[]): Promise<void>;
  /** Ends it and takes its devices out of the API. */
  stop(): Promise<void>;
}

/** `count` devices with a model and memory, as drivers of GPUs describe them. */
export function draDevices(count: number, model = 'H200', memory = '141Gi'): DraDevice[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `gpu-${index}`,
    attributes: { model: { string: model } },
    capacity: { memory: { value: memory } },
  }));
}

/** The DeviceClass of everything that a driver offers. */
export function deviceClass(name: string, driver: string): object {
  return {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'DeviceClass',
    metadata: { name },
    spec: { selectors: [{ cel: { expression: `device.driver == '${driver}'` } }] },
  };
}

/**
 * Starts a driver on a node; resolves when the API server shows its devices.
 * @throws UserError when the cluster is not a bare one
 */
export async function startDraDriver(cluster: Cluster, offer: DraOffer, progress: Progress): Promise<DraDriver> {
  const { node, driver } = offer;
  if (cluster.provider !== 'bare')
    throw new UserError(
      `A DRA driver can run on nodes of a bare cluster only, and this one is of "${cluster.provider}".`,
    );
  const tools = await ensureTools(['dra-driver'], progress);
  const folder = path.join(path.dirname(cluster.kubeconfig), 'nodes', node);
  const file = path.join(folder, `${driver}.json`);
  const log = path.join(folder, 'log', `${driver}.log`);
  const pidFile = `/run/slm/${driver}.pid`;
  const inNode = async (script: string) => {
    const { code, stderr } = await cluster.node(node).exec(['bash', '-c', script]);
    if (code !== 0) throw new Error(`${script.slice(0, 60)} … failed on ${node}: ${stderr}`);
  };
  const chosen = ['--field-selector', `spec.nodeName=${node},spec.driver=${driver}`];
  const awaitDevices = (devices: readonly DraDevice[]) =>
    waitUntil(
      async () => {
        const names = 'jsonpath={.items[*].spec.devices[*].name}';
        const shown = await cluster.kubectl(['get', 'resourceslices', ...chosen, '-o', names]);
        return shown === devices.map(({ name }) => name).join(' ');
      },
      { what: `${devices.length} devices of ${driver} on ${node} (see ${log})`, timeoutMs: 60_000 },
    );

  const options = `--driver ${driver} --node ${node} --devices ${file} --kubeconfig ${folder}/kubelet.kubeconfig`;
  await writeFile(file, JSON.stringify(offer.devices));
  await inNode(
    `setsid -f bash -c 'echo $$ >${pidFile}; exec ${tools['dra-driver']} ${options}' >>${log} 2>&1 </dev/null`,
  );
  await awaitDevices(offer.devices);
  const stop = async () => {
    await inNode(
      `pid=$(cat ${pidFile}) && kill $pid && while kill -0 $pid; do sleep 0.05; done 2>/dev/null; rm -f ${pidFile}`,
    );
    // The kubelet would do so after half a minute.
    await cluster.kubectl(['delete', 'resourceslices', ...chosen]);
  };
  return {
    async setDevices(devices) {
      await writeFile(file, JSON.stringify(devices));
      await inNode(`kill -HUP $(cat ${pidFile})`);
      await awaitDevices(devices);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
