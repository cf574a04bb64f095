// Bun with its own engine, and nothing is stored.
import { Server as Engine } from '@socket.io/bun-engine';
import { Server } from 'socket.io';
import chat from './chat.js';
import * as memory from './memory.js';

const io = new Server();
const engine = new Engine({ path: '/socket.io/' });
io.bind(engine);
chat(io, memory);

export default { port: Number(process.env.PORT), idleTimeout: 30, ...engine.handler() };
