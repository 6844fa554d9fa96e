import { defineConfig } from "vite";

// While developing, the page comes from Vite and everything else from a running `dna`.
const dna = "http://127.0.0.1:9013";

export default defineConfig({
  base: "./",
  build: { target: "es2022", assetsInlineLimit: 8192, reportCompressedSize: false },
  server: {
    host: "127.0.0.1",
    proxy: { "/socket.io": { target: dna, ws: true }, "/api": dna },
  },
});
