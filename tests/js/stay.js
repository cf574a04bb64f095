// Stays through a restart of the server: node stay.js URL TRANSPORT
'use strict';

const { io } = require('socket.io-client');
const [url, transport] = process.argv.slice(2);
const socket = io(url, { transports: [transport], reconnectionDelay: 100, reconnectionDelayMax: 200 });

socket.on('connect', () => {
  socket.emit('authenticate', { id: 'alice' }, () => console.log('connected'));
});
socket.on('disconnect', (reason) => console.log(`disconnected: ${reason}`));
