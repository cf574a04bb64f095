// Node, and nothing is stored.
'use strict';

const { Server } = require('socket.io');
const chat = require('./chat');

chat(new Server(Number(process.env.PORT), { serveClient: false }), require('./memory'));
