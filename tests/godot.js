// Godot's web build in Node, without a browser: plays FOLDER/game.zip, a project that reads and writes lines.
//     node godot.js ENGINE FOLDER
// Godot asks a browser for little where it is told that there is no display: what it asks for is made up here.
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const [engine, folder] = process.argv.slice(2);
let waiting = "";

// Without a line break at the end: an empty line is the end of the input.
function readLine() {
    const chunk = Buffer.alloc(1 << 16);
    while (!waiting.includes("\n")) {
        const count = fs.readSync(0, chunk, 0, chunk.length, null);
        if (count === 0) return "";
        waiting += chunk.toString("latin1", 0, count);
    }
    const end = waiting.indexOf("\n");
    const line = waiting.slice(0, end);
    waiting = waiting.slice(end + 1);
    return line;
}

function element() {
    const nothing = () => {};
    return {
        style: {}, width: 1, height: 1, tagName: "CANVAS", addEventListener: nothing, removeEventListener: nothing,
        appendChild: nothing, remove: nothing, focus: nothing, setAttribute: nothing, getContext: () => null,
        getBoundingClientRect: () => ({ x: 0, y: 0, left: 0, top: 0, width: 1, height: 1 }),
    };
}

async function fetched(url) {
    const name = path.basename(url);
    const headers = { "content-type": name.endsWith(".wasm") ? "application/wasm" : "application/octet-stream" };
    return new Response(fs.readFileSync(path.join(name === "game.zip" ? folder : engine, name)), { headers });
}

const canvas = element();
class HTMLCanvasElement {
    static [Symbol.hasInstance](other) {
        return other === canvas;
    }
}
const page = {
    console, setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, performance, crypto: globalThis.crypto,
    TextDecoder, TextEncoder, WebAssembly, URL, URLSearchParams, Blob, Response, Request, Headers, ReadableStream,
    AbortController, Event, EventTarget, DOMException, HTMLCanvasElement, HTMLElement: class {},
    navigator: { userAgent: "Chrome/120.0", language: "en", languages: ["en"], platform: "Linux", getGamepads: () => [] },
    document: {
        currentScript: { src: "http://localhost/index.js" }, body: element(), head: element(), title: "",
        documentElement: {}, visibilityState: "visible", createElement: element, getElementById: () => canvas,
        querySelector: () => canvas, addEventListener: () => {}, removeEventListener: () => {},
    },
    location: { href: "http://localhost/", search: "", protocol: "http:", hostname: "localhost" },
    screen: { width: 1, height: 1 }, devicePixelRatio: 1, innerWidth: 1, innerHeight: 1,
    matchMedia: () => ({ matches: false, addEventListener: () => {} }),
    requestAnimationFrame: (frame) => setTimeout(() => frame(performance.now()), 0), cancelAnimationFrame: clearTimeout,
    addEventListener: () => {}, removeEventListener: () => {}, fetch: fetched, readLine,
    writeLine: (line) => fs.writeSync(1, `${line}\n`),
};
page.window = page.self = page.top = page.parent = page.globalThis = page;
vm.createContext(page);
vm.runInContext(fs.readFileSync(path.join(engine, "index.js"), "utf8"), page, { filename: "index.js" });

const game = new page.Engine({
    canvas, canvasResizePolicy: 0, unloadAfterInit: false, persistentPaths: [],
    executable: "index", mainPack: "game.zip", args: ["--headless", "--audio-driver", "Dummy"],
    onPrint: (...words) => console.error(...words),
    onPrintError: (...words) => console.error(...words),
    onExit: (code) => process.exit(code),
});
game.startGame();
