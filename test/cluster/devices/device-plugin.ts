/**
 * A device plugin without a device: it speaks the kubelet's device plugin API over a socket in the node's folder, so that the
 * kubelet itself counts, hands out and loses devices. Owns that socket and what it says of health; whether a pod can compute on
 * what it gets is not its business.
 */
import { randomBytes } from 'node:crypto';
import { watch } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import {
  credentials,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { UserError } from '../errors.ts';
import {
  type AllocateRequest,
  API_VERSION,
  type ContainerAllocateResponse,
  devicePluginService,
  type ListAndWatchResponse,
  RegistrationClient,
} from './protocol.ts';

/** What the plugin offers. */
export interface DevicePluginOptions {
  /** The node's /var/lib/kubelet, as this process sees it. */
  readonly kubeletFolder: string;
  /** Such as `nvidia.com/gpu`. */
  readonly resource: string;
  readonly count: number;
  /** How many of them are healthy, the first ones. Default: all. */
  readonly healthy?: number;
  /** What a container that got these devices finds in it. Default: nothing. */
  readonly allocate?: (ids: readonly string[]) => ContainerAllocateResponse;
}

/** A plugin that runs. */
export interface DevicePlugin {
  /** Tells the kubelet that only the first `count` devices are healthy. */
  setHealthy(count: number): void;
  /** Ends it as a crash would: the kubelet sees no healthy device any more, and pods keep what they have. */
  stop(): Promise<void>;
}

const ANSWER_MS = 10_000;
type WatchStream = ServerWritableStream<object, ListAndWatchResponse>;

/**
 * Starts the plugin and registers it with the kubelet, again whenever the kubelet restarts.
 * @throws UserError when the kubelet does not answer or refuses
 */
export async function startDevicePlugin(options: DevicePluginOptions): Promise<DevicePlugin> {
  const { resource, count } = options;
  const folder = path.join(options.kubeletFolder, 'device-plugins');
  const name = resource.replaceAll(/[^\w-]/g, '-');
  // A name of its own for each start: a kubelet that has not noticed the end of one refuses another at the same place.
  const endpointOf = () => `slm-${name}-${randomBytes(3).toString('hex')}.sock`;
  let endpoint = '';
  const streams = new Set<WatchStream>();
  let healthy = options.healthy ?? count;
  let server: Server | undefined;
  let stopped = false;

  const devices = () =>
    Array.from({ length: count }, (_, index) => ({
      ID: `${name}-${index}`,
      health: index < healthy ? ('Healthy' as const) : ('Unhealthy' as const),
    }));

  const close = async () => {
    for (const stream of streams) stream.end();
    streams.clear();
    server?.forceShutdown();
    server = undefined;
    if (endpoint) await rm(path.join(folder, endpoint), { force: true });
  };
  const open = async () => {
    await close();
    endpoint = endpointOf();
    const fresh = new Server();
    fresh.addService(devicePluginService, {
      GetDevicePluginOptions: (_call: unknown, answer: sendUnaryData<object>) => answer(null, {}),
      ListAndWatch(stream: WatchStream) {
        streams.add(stream);
        stream.on('cancelled', () => streams.delete(stream));
        stream.write({ devices: devices() });
      },
      Allocate({ request }: ServerUnaryCall<AllocateRequest, object>, answer: sendUnaryData<object>) {
        const each = request.container_requests.map((one) => options.allocate?.(one.devices_ids) ?? {});
        answer(null, { container_responses: each });
      },
    });
    await new Promise<void>((resolve, reject) => {
      fresh.bindAsync(`unix:${path.join(folder, endpoint)}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
    server = fresh;
    await register(path.join(folder, 'kubelet.sock'), { version: API_VERSION, endpoint, resource_name: resource });
  };

  const kubelet = () =>
    stat(path.join(folder, 'kubelet.sock')).then(
      ({ ino, birthtimeMs }) => `${ino} ${birthtimeMs}`,
      () => undefined,
    );
  let registeredWith = await kubelet();
  await open();
  const follow = async () => {
    const found = await kubelet();
    // One file system event may come twice, and a second registration with the same kubelet would confuse it.
    if (stopped || found === undefined || found === registeredWith) return;
    registeredWith = found;
    // A kubelet that ends again meanwhile makes its socket once more when it is back.
    await open().catch(() => undefined);
  };
  // A kubelet that starts clears the folder before it makes its own socket.
  let turn = Promise.resolve();
  const watcher = watch(folder, (_event, file) => {
    if (file === 'kubelet.sock') turn = turn.then(follow);
  });
  return {
    setHealthy(next) {
      healthy = next;
      for (const stream of streams) stream.write({ devices: devices() });
    },
    async stop() {
      stopped = true;
      watcher.close();
      await turn;
      await close();
    },
  };
}

function register(socket: string, request: object): Promise<void> {
  const client = new RegistrationClient(`unix:${socket}`, credentials.createInsecure());
  const call = client['Register'] as unknown as (
    request: object,
    options: { deadline: number },
    answer: (error: Error | null) => void,
  ) => void;
  return new Promise<void>((resolve, reject) => {
    call.call(client, request, { deadline: Date.now() + ANSWER_MS }, (error) =>
      error
        ? reject(new UserError(`the kubelet behind ${socket} refused the device plugin: ${error.message}`))
        : resolve(),
    );
  }).finally(() => client.close());
}
