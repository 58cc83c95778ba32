// A device plugin as a process of its own: `main.ts KUBELET_FOLDER RESOURCE COUNT HEALTHY`. Started by `npm run cluster --
// devices`; ends when it is told to, or when its node has lost its power.
import { existsSync } from 'node:fs';
import { startDevicePlugin } from './device-plugin.ts';

const [kubeletFolder = '', resource = '', count, healthy] = process.argv.slice(2);
const plugin = await startDevicePlugin({ kubeletFolder, resource, count: Number(count), healthy: Number(healthy) });
console.log(`${healthy} of ${count} ${resource}`);
const end = () => void plugin.stop().then(() => process.exit(0));
process.on('SIGTERM', end);
setInterval(() => {
  if (!existsSync(kubeletFolder)) end();
}, 2000);
