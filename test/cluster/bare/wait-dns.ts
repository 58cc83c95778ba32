// Asks a DNS server for a name until it answers: `node wait-dns.ts SERVER NAME SECONDS`. A program of its own, because it
// has to run inside the network of a node.
import { Resolver } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const [server = '', name = '', seconds = '30'] = process.argv.slice(2);
const end = performance.now() + Number(seconds) * 1000;
for (;;) {
  const resolver = new Resolver({ timeout: 500, tries: 1 });
  resolver.setServers([server]);
  try {
    console.log((await resolver.resolve4(name)).join(' '));
    break;
  } catch (error) {
    if (performance.now() > end) throw error;
    await sleep(100);
  }
}
