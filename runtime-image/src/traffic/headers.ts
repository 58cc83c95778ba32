/** Headers of requests and answers that are passed on. Pure. */
import type { IncomingHttpHeaders } from 'node:http';
import { serverHeaders } from '@slm-operator/crds/contract';

/** RFC 9110, 7.6.1: about one connection alone. The body's length is that of what is sent, not of what came. */
const OF_ONE_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
]);

type Headers = Record<string, string | string[]>;

/** Whether another server has passed this request on already. */
export function wasPassedOn(headers: IncomingHttpHeaders): boolean {
  return headers[serverHeaders.forwarded] !== undefined;
}

/** @param from revision of this server @param id of the request, for the logs of both */
export function requestHeaders(client: IncomingHttpHeaders, body: string, from: string, id: string): Headers {
  return {
    ...kept(client),
    'content-type': client['content-type'] ?? 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    'x-request-id': id,
    [serverHeaders.forwarded]: from,
    connection: 'close',
  };
}

/** Of an answer; with the length of its body where it has one. */
export function answerHeaders(answer: IncomingHttpHeaders): Headers {
  return kept(answer);
}

function kept(headers: IncomingHttpHeaders): Headers {
  const named = new Set((headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase()));
  return Object.fromEntries(
    Object.entries(headers).filter(
      (entry): entry is [string, string | string[]] =>
        entry[1] !== undefined && !OF_ONE_CONNECTION.has(entry[0]) && !named.has(entry[0]),
    ),
  );
}
