# gnuplot -e 'data="servers.dat"; out="servers.svg"' servers.gp
set terminal svg size 860,380 font "Helvetica,Arial,sans-serif,13" \
    background rgb "white" dynamic
set output out
set style data histogram
set style histogram clustered gap 1.2
set style fill solid 0.9 noborder
set ylabel "CPU per request, raw epoll = 1"
set yrange [0:2.2]
set grid ytics lc rgb "#d8d8d8"
set border 3 lc rgb "#444444"
set tics nomirror textcolor rgb "#222222"
set xtics scale 0 font ",12" noenhanced
set bmargin 3.2
set key top left horizontal samplen 1.5
set arrow from graph 0, first 1 to graph 1, first 1 nohead lc rgb "#222222" lw 1.5 front
plot data u 2:xtic(1) lc rgb "#bdd7e7" t "1 connection", \
    "" u 3 lc rgb "#6baed6" t "50", "" u 4 lc rgb "#2171b5" t "1,000", \
    "" u 5 lc rgb "#e08214" t "accept, exchange, close"
