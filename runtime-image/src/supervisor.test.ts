/** Real processes that are really killed: what clients, Prometheus and the kubelet see of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { CrashCounter } from './supervisor.ts';

vi.setConfig({ testTimeout: 120_000 });

const running: ChildProcess[] = [];
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

function start(env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'main.ts')], {
    env: {
      SLM_MODEL_PATH: '/nowhere',
      SLM_ENGINE: 'fake',
      SLM_HOST: '127.0.0.1',
      SLM_PORT: '0',
      SLM_OPENAI_PORT: '0',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(child);
  let output = '';
  child.stdout.on('data', (data: Buffer) => {
    output += data.toString();
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', resolve);
  });
  const lines = (message?: string) =>
    output
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((line) => message === undefined || line['msg'] === message);
  /** The server process number `nth`, once it listens. */
  const server = async (nth = 1) => {
    await expect.poll(() => lines('listening').length, { timeout: 60_000 }).toBe(nth);
    const { pid, ports } = lines('listening').at(-1) as { pid: number; ports: [number, number] };
    return { pid, ports, url: `http://127.0.0.1:${ports[0]}` };
  };
  return { child, ended, lines, server };
}

async function ask(url: string): Promise<[number, string]> {
  const response = await fetch(`${url}/api/generate`, {
    method: 'POST',
    body: JSON.stringify({ model: 'nowhere', prompt: 'hello', stream: false }),
  });
  return [response.status, ((await response.json()) as { response: string }).response];
}

describe('a server that crashes in native code', () => {
  test('is replaced behind the same ports: requests wait instead of being refused, and the crash is counted', async () => {
    const { lines, server } = start();
    const first = await server();
    await expect.poll(() => fetch(`${first.url}/readyz`).then((response) => response.status)).toBe(200);
    expect(await ask(first.url)).toEqual([200, 'You said: hello']);
    process.kill(first.pid, 'SIGSEGV');
    await expect.poll(() => lines('the server process crashed; starting another').length).toBe(1);
    // Nobody listens at this moment; the sockets do.
    expect(await Promise.all(first.ports.map((port) => ask(`http://127.0.0.1:${port}`)))).toEqual([
      [200, 'You said: hello'],
      [200, 'You said: hello'],
    ]);
    const second = await server(2);
    expect(second.ports).toEqual(first.ports);
    expect(second.pid).not.toBe(first.pid);
    const metrics = await (await fetch(`${second.url}/metrics`)).text();
    expect(metrics).toContain('slm_engine_restarts_total{signal="SIGSEGV"} 1');
    expect((await fetch(`${second.url}/readyz`)).status).toBe(200);
  });

  test('ends the connections that it had, so that no client waits for ever', async () => {
    const { server } = start();
    const { pid, ports, url } = await server();
    const socket = connect(ports[0], '127.0.0.1');
    socket.write('POST /api/generate HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{');
    await expect.poll(async () => (await fetch(`${url}/readyz`)).status).toBe(200);
    process.kill(pid, 'SIGABRT');
    await new Promise<void>((resolve) => {
      socket.once('error', () => undefined).once('close', () => resolve());
    });
    expect(await ask(url)).toEqual([200, 'You said: hello']);
  });

  test('again and again is given up with a reason', async () => {
    const { ended, lines, server } = start();
    for (let nth = 1; nth <= 5; nth++) process.kill((await server(nth)).pid, 'SIGSEGV');
    expect(await ended).toBe(1);
    expect(lines().at(-1)).toMatchObject({
      level: 'fatal',
      reason: 'EngineCrashed',
      msg: expect.stringContaining('crashed 5 times within 10 minutes, the last time by SIGSEGV') as string,
    });
  });
});

describe('a server that ends otherwise', () => {
  test('for memory, or because somebody killed it, takes the container with it', async () => {
    const { ended, server } = start();
    process.kill((await server()).pid, 'SIGKILL');
    expect(await ended).toBe(137);
  });

  test('ends with its supervisor, however that ends', async () => {
    const { child, server } = start();
    const { url } = await server();
    child.kill('SIGKILL');
    // Nobody listens any more, and nobody holds the socket.
    await expect
      .poll(
        () =>
          fetch(url).then(
            () => 'served',
            () => 'gone',
          ),
        { timeout: 20_000 },
      )
      .toBe('gone');
  });
});

test('a port that is taken is named', async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => {
    taken.listen(0, '127.0.0.1', resolve);
  });
  const { port } = taken.address() as { port: number };
  const { ended, lines } = start({ SLM_PORT: String(port) });
  expect(await ended).toBe(1);
  expect(lines().at(-1)).toMatchObject({
    reason: 'PortInUse',
    msg: `port ${port} is in use: set SLM_PORT or SLM_OPENAI_PORT to another.`,
  });
  taken.close();
});

test('SLM_SUPERVISE=false serves in the one process', async () => {
  const { child, ended, server } = start({ SLM_SUPERVISE: 'false' });
  expect((await server()).pid).toBe(child.pid);
  child.kill('SIGTERM');
  expect(await ended).toBe(0);
});

describe('crashes are counted', () => {
  test('and the fifth within ten minutes is one too many', () => {
    const crashes = new CrashCounter();
    expect([0, 1, 2, 3, 4].map((minute) => crashes.add('SIGSEGV', minute * 60_000))).toEqual([
      0,
      250,
      1000,
      4000,
      undefined,
    ]);
  });

  test('and forgiven after ten minutes, but never forgotten', () => {
    const crashes = new CrashCounter();
    expect([0, 10, 20, 30, 40, 50].map((minute) => crashes.add('SIGABRT', minute * 60_000))).toEqual([
      0, 0, 0, 0, 0, 0,
    ]);
    crashes.add('exception', 51 * 60_000);
    expect(crashes.total).toEqual({ SIGABRT: 6, exception: 1 });
  });
});
