/**
 * The driver as the kubelet meets it: two unix sockets, one that it watches for registrations and one that it then calls.
 * Owns the sockets: cleared at start, made again when somebody removed them. Knows nothing of models.
 */
import { mkdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { csi } from '@slm-operator/crds/contract';
import type { Clock, Timer } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { identityService, nodeService, type RegistrationStatus, registrationService } from './descriptors.ts';
import { makeNodeService, type NodeServiceOptions, unary } from './node-service.ts';

export interface DriverOptions extends NodeServiceOptions {
  readonly version: string;
  readonly clock: Clock;
  /** Milliseconds between looks whether the sockets are still there. Default 5000. */
  readonly checkIntervalMs?: number | undefined;
}

/** Where the kubelet expects them. */
export function socketPaths(kubeletDir: string): { readonly csi: string; readonly registration: string } {
  return {
    csi: path.join(kubeletDir, 'plugins', csi.driver, 'csi.sock'),
    registration: path.join(kubeletDir, 'plugins_registry', `${csi.driver}-reg.sock`),
  };
}

export class Driver {
  readonly #options: DriverOptions;
  readonly #log: Logger;
  readonly #paths: { readonly csi: string; readonly registration: string };
  #servers: Server[] = [];
  #timer: Timer | undefined;
  #stopped = false;
  #registered = false;

  constructor(options: DriverOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#paths = socketPaths(options.kubeletDir);
  }

  /** Whether the kubelet said that it accepted the driver. */
  get registered(): boolean {
    return this.#registered;
  }

  async start(): Promise<void> {
    await this.#listen();
    this.#watch();
  }

  /** Lets running calls end, for at most `graceMs`, and removes the sockets. Mounts stay. */
  async stop(graceMs = 2000): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#close(graceMs);
  }

  async #listen(): Promise<void> {
    // The socket that is called before the one that announces it.
    this.#servers = [
      await serve(this.#paths.csi, (server) => {
        server.addService(identityService, this.#identity());
        server.addService(nodeService, makeNodeService(this.#options));
      }),
      await serve(this.#paths.registration, (server) => {
        server.addService(registrationService, this.#registration());
      }),
    ];
    this.#log.info({ socket: this.#paths.csi }, 'CSI driver listens');
  }

  #identity() {
    return {
      GetPluginInfo: unary(this.#log, () =>
        Promise.resolve({ name: csi.driver, vendorVersion: this.#options.version }),
      ),
      GetPluginCapabilities: unary(this.#log, () => Promise.resolve({})),
      Probe: unary(this.#log, () => Promise.resolve({ ready: { value: true } })),
    };
  }

  #registration() {
    return {
      GetInfo: unary(this.#log, () =>
        Promise.resolve({
          type: 'CSIPlugin',
          name: csi.driver,
          endpoint: this.#paths.csi,
          supportedVersions: ['1.0.0'],
        }),
      ),
      NotifyRegistrationStatus: unary<RegistrationStatus>(this.#log, (status) => {
        this.#registered = status.pluginRegistered;
        if (status.pluginRegistered) this.#log.info({}, 'registered with the kubelet');
        else {
          this.#log.error({ error: status.error }, 'the kubelet refused the registration; it is offered again');
          // The kubelet looks again only when a socket appears.
          void this.#reopen().catch((error: unknown) => this.#log.error({ err: error }, 'the sockets cannot be made'));
        }
        return Promise.resolve({});
      }),
    };
  }

  #watch(): void {
    this.#timer = this.#options.clock.schedule(this.#options.checkIntervalMs ?? 5000, () => {
      void this.#check().finally(() => {
        if (!this.#stopped) this.#watch();
      });
    });
  }

  async #check(): Promise<void> {
    try {
      const missing = await Promise.all(Object.values(this.#paths).map((socket) => isGone(socket)));
      if (this.#stopped || !missing.includes(true)) return;
      this.#log.warn({ ...this.#paths }, 'a socket of the driver vanished; it is made again');
      await this.#reopen();
    } catch (error) {
      this.#log.error({ err: error }, 'the sockets cannot be made');
    }
  }

  async #reopen(): Promise<void> {
    await this.#close(1000);
    if (!this.#stopped) await this.#listen();
  }

  async #close(graceMs: number): Promise<void> {
    const servers = this.#servers;
    this.#servers = [];
    await Promise.all(servers.map((server) => shutDown(server, graceMs, this.#options.clock)));
  }
}

async function serve(socket: string, add: (server: Server) => void): Promise<Server> {
  await mkdir(path.dirname(socket), { recursive: true, mode: 0o750 });
  // A socket file of the run before refuses connections and keeps the name taken.
  await rm(socket, { force: true });
  const server = new Server();
  add(server);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(new Error(`cannot listen on ${socket}: ${error.message}`, { cause: error }));
    });
  });
  return server;
}

function shutDown(server: Server, graceMs: number, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.schedule(graceMs, () => {
      server.forceShutdown();
      resolve();
    });
    server.tryShutdown(() => {
      timer.cancel();
      resolve();
    });
  });
}

async function isGone(socket: string): Promise<boolean> {
  try {
    return !(await stat(socket)).isSocket();
  } catch {
    return true;
  }
}
