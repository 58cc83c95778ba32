import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { makeAskPod, readReport } from './pod-report.ts';

const device = { class: 'gpu', backend: 'CUDA', name: 'NVIDIA L4', layersOffloaded: 33, layers: 33 };

describe('a report', () => {
  const rows: [string, unknown, unknown][] = [
    [
      'is what the contract has, and no more',
      {
        status: 'ready',
        device: { ...device, uuid: 'x' },
        tokensPerSecond: 41.5,
        running: 0,
        idleSeconds: 7,
        queue: 1,
      },
      { device, tokensPerSecond: 41.5, running: 0, idleSeconds: 7 },
    ],
    [
      'has the reason of a pod that is not ready',
      { reason: 'too-slow', message: '3 of 20 tokens a second', tokensPerSecond: 3 },
      { reason: 'too-slow', message: '3 of 20 tokens a second', tokensPerSecond: 3 },
    ],
    [
      'says what a pod passes on, and why it cannot',
      { traffic: { weight: 10, revision: 'new', problem: 'it answers\n401', more: 1 } },
      { traffic: { weight: 10, revision: 'new', problem: 'it answers 401' } },
    ],
    ['of a pod that passes nothing on tells that it could', { traffic: {} }, { traffic: {} }],
    ['of a pod from before weights has no word of them', { traffic: 10 }, {}],
    ['of a server older than devices has none', { status: 'ready', device: 'cpu' }, {}],
    ['leaves out a device of no known class', { device: { ...device, class: 'tpu' } }, {}],
    ['leaves out numbers that are none', { tokensPerSecond: '40', running: -1, idleSeconds: 1e99 }, {}],
    [
      'has no character that moves a terminal',
      { device: { ...device, name: '\u001b[31mNVIDIA\nL4' } },
      { device: { ...device, name: '[31mNVIDIA L4' } },
    ],
    [
      'is cut to what status may hold',
      { device: { ...device, name: 'x'.repeat(999) } },
      { device: { ...device, name: 'x'.repeat(256) } },
    ],
    ['is none when it is no object', [device], undefined],
  ];
  it.each(rows)('%s', (_, body, expected) => {
    expect(readReport(JSON.stringify(body))).toEqual(expected);
  });
  it('is none when it is no JSON', () => {
    expect(readReport('<html>')).toBeUndefined();
  });
});

describe('a pod is asked over HTTP', () => {
  let server: Server | undefined;
  afterEach(() => void server?.close());
  const serve = async (status: number, body: string) => {
    server = createServer((request, response) => {
      response.writeHead(request.url === '/readyz' ? status : 404).end(body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { ip: '127.0.0.1', port: (server.address() as AddressInfo).port, tls: false };
  };
  it('and its report counts also when it is not ready', async () => {
    const place = await serve(503, JSON.stringify({ reason: 'too-slow', device }));
    expect(await makeAskPod()(place)).toEqual({ reason: 'too-slow', device });
  });
  it('and an answer without a report is none', async () => {
    const place = await serve(502, 'Bad Gateway');
    await expect(makeAskPod()(place)).rejects.toThrow('answered 502 without a report');
  });
  it('and one that sends without end is left', async () => {
    const place = await serve(200, `{"message":"${'x'.repeat(200_000)}"}`);
    await expect(makeAskPod()(place)).rejects.toThrow();
  });
});
